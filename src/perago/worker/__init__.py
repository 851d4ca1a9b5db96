"""Worker processes: a supervisor that talks to Conductor and slots that run attempts."""
