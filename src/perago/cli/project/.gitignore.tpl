.env
.venv/
__pycache__/
