"""What a run tells afterwards: the summary now; the page and the exports stand beside it later."""
