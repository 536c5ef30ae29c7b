"""HTML, plots, tables. Draws what was decided; decides nothing."""
