"""Where jobs run, behind one small protocol."""
