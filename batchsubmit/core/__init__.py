"""Jobs, their states and where they come from: values and pure functions that all other packages share."""
