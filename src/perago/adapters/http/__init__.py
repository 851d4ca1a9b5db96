"""HTTP for both adapters: one connection pool per service, limits on every wait, failures sorted by their effect."""

from perago.adapters.http.failures import NoAnswerError, clean
from perago.adapters.http.patience import Overloaded, Patience, repeat
from perago.adapters.http.pool import Answer, HttpPool

__all__ = ["Answer", "HttpPool", "NoAnswerError", "Overloaded", "Patience", "clean", "repeat"]
