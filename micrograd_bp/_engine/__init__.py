"""Behind the table and the node: operators, sweeps, special functions, trees, files, the accelerated engine."""
