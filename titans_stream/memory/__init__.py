"""The Titans memory that serves every score: one update rule, its compiled twin, layout of rows."""
