[tool.pytest.ini_options]
pythonpath = ["."]
perago_modules = ["my_tasks"]

[tool.mypy]
strict = true
