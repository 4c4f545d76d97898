"""Where jobs come from: manifests and the queue."""
