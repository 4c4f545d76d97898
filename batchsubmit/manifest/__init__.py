"""Manifests: CSV and JSONL files, local or in S3, read, checked and handed out row by row."""
