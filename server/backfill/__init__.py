"""History: fetching what a repo held before we followed it, without a seam to the stream."""
