"""The forms that files hold: each module knows one family of operators as exporters write it."""
