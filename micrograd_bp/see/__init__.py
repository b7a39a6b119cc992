"""Walks over a graph that show it: pictures, tables, paths, formulas, the explorer."""
