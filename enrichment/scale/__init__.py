"""How pages of keys answer when there is a great deal behind them: `manage.py bench keys`."""
