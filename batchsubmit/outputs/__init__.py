"""What a run leaves beside the ledger: files, copies in S3, notices."""
