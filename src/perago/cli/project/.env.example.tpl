# Copy to .env and fill in. `perago register` and `perago start` read it; `perago check MODULE` says what is wrong.
CONDUCTOR_SERVER_URL=http://localhost:8080/api
# CONDUCTOR_AUTH_KEY=
# CONDUCTOR_AUTH_SECRET=
LAKECTL_SERVER_ENDPOINT_URL=http://localhost:8000
LAKECTL_CREDENTIALS_ACCESS_KEY_ID=
LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY=
