"""HTTP for both adapters: one connection pool per service, limits on every wait, failures sorted by their effect."""

from perago.adapters.http.failures import NoAnswerError, clean
from perago.adapters.http.pool import Answer, HttpPool
from perago.adapters.http.retry import CallPolicy, Overloaded

__all__ = ["Answer", "CallPolicy", "HttpPool", "NoAnswerError", "Overloaded", "clean"]
