"""Who people are: login links today; users, roles and sessions will live here."""
