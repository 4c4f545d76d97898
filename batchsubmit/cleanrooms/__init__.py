"""Clean Rooms ML, as far as a batch needs it: the seam `JobsApi` and the values that cross it."""
