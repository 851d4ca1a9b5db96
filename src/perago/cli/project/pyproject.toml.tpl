[tool.pytest.ini_options]
pythonpath = ["."]
perago_modules = ["my_tasks"]
addopts = "-p no:conductor-agents-testing"  # a slow plugin of conductor-python

[tool.mypy]
files = ["."]
strict = true
