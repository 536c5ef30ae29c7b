"""The served model: reading and switching its standing configuration, and recording its traffic from inside (capture)."""
