"""What a run leaves behind beside the ledger: files, copies in S3, notices."""
