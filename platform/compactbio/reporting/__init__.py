"""Tables, plots and one HTML page about a run, from what lies in its folder."""
