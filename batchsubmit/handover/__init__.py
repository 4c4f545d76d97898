"""What leaves the house when a run has ended: files that appear whole, their copies in S3, notices, and their names."""
