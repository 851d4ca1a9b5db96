"""Redact the values of secrets in text: one function for terminals, logs and reasons."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

from perago.secret_names import is_password, looks_secret, looks_secret_in_address

REDACTED = "***"

_SHORTEST = 4
"""Minimum length of a secret, or a part of one, that is redacted. A shorter limit would redact words."""
_TOKEN = 16
"""Minimum length from which a part of an address's path with a digit counts as a token. Names such as
`conductor-service` are not redacted. The token of `perago dev` has 32, all hexadecimal."""
_LONGEST_TOKEN = 256
"""Bytes of the longest token that is recognized where a text is cut."""
_TOKENS = {
    "AWS": r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "GitHub": r"(?:gh[pousr]_|github_pat_)\w{16,}",
    "GitLab, Slack": r"(?:glpat|xox[abeoprs])-[\w-]{10,}",
    "OpenAI, Anthropic": r"sk-(?:(?:proj|svcacct|admin|ant|or)-[\w-]{16,}|[A-Za-z0-9]{20,})",
    "Stripe": r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,}",
    "Google": r"AIza[\w-]{30,}|GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,}",
    "npm": r"npm_[A-Za-z0-9]{30,}",
    "SendGrid": r"SG\.[\w-]{16,}\.[\w-]{16,}",
    "Hugging Face": r"hf_[A-Za-z0-9]{30,}",
    "PyPI": r"pypi-AgE[\w-]{16,}",
    "Vault": r"hv[bsr]\.[\w-]{20,}",
}
"""The forms of tokens, by their issuers. `perago.history.redaction` adds those of a library."""
_SHAPES = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
    rf"|(?<![A-Za-z0-9])(?:{'|'.join(_TOKENS.values())})"
    r"|(?<=hooks\.slack\.com/services/)[\w/]+|(?<![\w.-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    re.DOTALL,
)
"""Secrets that are recognized by their form: private keys, tokens, JWTs."""
_USER = re.compile(r"(://)([^/\s]+)(?=@)")
_SLASHED = re.compile(r"""(://[^/\s:@[]*:)(?!\d+(?:/|$))([^\s"'<>]{1,200})(?=@)""")
"""A password with a slash, which makes the address invalid."""
_LOGIN = re.compile(r"""((?<!\S)(?:-u|--user|--proxy-user)[ \t=]+["']?(?!\d+:)[^\s:"']{1,100}:)([^\s"']+)""")
_ORACLE = re.compile(r"(jdbc:oracle:\w+:[^/\s@]{1,100}/)([^\s@]{1,200})(?=@)")
_ELEMENT = re.compile(
    r"""(<(?:[\w-]{1,50}:)?(?P<tag>[\w.-]{1,100})(?:\s+(?:name|key)=["'](?P<field>[\w.-]{1,100})["'])?"""
    r"""(?:[^<>]{0,200}\bvalue=["']|[^<>]{0,200}>\s*(?:<!\[CDATA\[)?(?=[^<>]{1,2000}</|[^<>]{1,2000}\]\]></)))"""
    r"""(?P<text>[^<>"'\]]+)"""
)
"""XML: `<password>...</password>`, `<entry key="password">...</entry>`, `<add key="password" value="..."/>`."""
_HEADER = re.compile(
    r"""(\b(?:authorization|cookie)["']?[ \t]*:[ \t]*["']?(?:[\w-]+[ \t]+)?)([^\r\n"']+)""", re.IGNORECASE
)
_SCHEME = re.compile(r"\b(bearer|basic)([ \t]+)([\w.~+/-]{6,}=*)", re.IGNORECASE)
_NAME = re.compile(
    r"""(?<![\w.-])(?:(?P<name>[\w.-]{1,100})(?P<sign>\\*["']?[ \t]*[=:][ \t]*)"""
    r"""|(?P<option>--[\w-]{1,100})[ \t]+(?!-))"""
)
"""The text before a value: `?sig=...`, `host=db password=...`, `"password": ...`, `--token ...`."""
_VALUE = re.compile(
    r"""(\\+["'])(?:.{1,2000}?(?<!\\)\1|.{1,2000}?\1)"""
    r"""|"(?:[^"\\]|\\.)+"|"[^"]+"|'(?:[^'\\]|\\.)+'|'[^']+'|\{[^{}\s]+\}|[^&#;,\s"'<>]+"""
)
"""The quotes of JSON inside JSON are escaped. A backslash before a quote escapes it, unless no quote follows, as in a
Windows path."""
_QUOTES = "\\\"'"
_MIXED = re.compile(r"""\\*["']?(?=[^&#;,\s"'<>]{10})[^&#;,\s"'<>?]*\d[A-Za-z]""")
"""A value with a digit before a letter, unlike the keys and codes of data: `?key=raw/2024.csv`."""
_CALL = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*[(\[]")
"""The start of a call or a subscript, as source code in a traceback has them."""
_END = re.compile(r"""[ \t]*(?:$|[\r\n,;&#"'<>)\]}]|[\w.-]+[ \t]*[=:])""")
_STATES = frozenset(("ok", "failed", "none", "null", "true", "false", "enabled", "disabled", "missing", "invalid"))
"""Words for the state of credentials in a log: `auth: ok`."""
_INDENT = 100
"""Maximum number of characters between the start of a line and the name that it assigns to."""
_WORD = re.compile(r"[A-Za-z]?[a-z-]*|[A-Z]+|[\d.]+")
"""A word or a number of a sentence, mostly not a secret."""
_PIECE = re.compile(r"""[^\s"'<>]+""")


class Mask:
    """Redacts secrets in their usual spellings: plain, with escaped quotes or backslashes, URL-quoted, and in base64,
    also as a part of a longer text (`user:secret`). Thread-safe and picklable.

    With `whole_words`, only secrets that are not part of a longer word are redacted. With `by_form`, other secrets are
    redacted, too, by their forms and names.
    """

    def __init__(self, secrets: Iterable[str] = (), *, whole_words: bool = False, by_form: bool = False) -> None:
        self._by_form = by_form
        self._edges = (r"(?<!\w)", r"(?!\w)") if whole_words else ("", "")
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self.longest: int = max((len(form.encode("utf-8", "surrogatepass")) for form in forms), default=0)
        """Length of the longest form in UTF-8 bytes. Pieces of a cut text must overlap by as much."""
        if by_form:
            self.longest = max(self.longest, _LONGEST_TOKEN)

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        for form in self._forms:
            if form in text:
                text = re.sub(re.escape(form).join(self._edges), REDACTED, text)
        return without_secrets(text) if self._by_form else text

    def finds(self, content: bytes) -> bool:
        """Whether the bytes of a file hold one of the secrets."""
        return any(
            form.encode("utf-8", "surrogatepass") in content
            and (not self._edges[0] or self(text := content.decode("utf-8", "replace")) != text)
            for form in self._forms
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and (self._forms, self._by_form) == (other._forms, other._by_form)

    def __hash__(self) -> int:
        return hash(self._forms)

    def __repr__(self) -> str:
        return f"Mask({len(self._forms)} forms)"


def secrets_in(address: str) -> list[str]:
    """Return the parts of an address that open its server: a password, and tokens in its path, such as that of `perago
    dev`. The address need not be valid."""
    host, _, path = address.partition("://")[2].partition("/")
    password = host.rpartition("@")[0].partition(":")[2]
    return [password, *filter(may_be_token, path.split("/")), *redact_text(address)[1]]


def may_be_token(part: str, shortest: int = _TOKEN) -> bool:
    """Whether a word looks like a token, not a name."""
    return len(part) >= shortest and any(character.isdigit() for character in part)


def redact_text(text: str) -> tuple[str, list[str]]:
    """Return `text` without the secrets in it, and these secrets.

    Secrets are passwords and secret parameters of addresses, assignments to names of secrets, options of commands,
    headers with credentials, and values that have the form of a key or token.
    """
    secrets: list[str] = []

    def without(secret: str) -> str:
        content = secret.strip(_QUOTES)
        if content == "" or content.startswith(REDACTED):
            return secret
        secrets.append(content)
        return REDACTED if secret.startswith("'") else secret.replace(content, REDACTED)  # JSON stays valid

    def login(match: re.Match[str]) -> str:
        user, colon, password = match[2].partition(":")
        if colon:
            return f"{match[1]}{user}:{without(password)}"
        return match[1] + (without(user) if may_be_token(user) else user)

    def header(match: re.Match[str]) -> str:
        credentials = match[2].split()
        return match[0] if len(credentials) > 1 and all(map(_is_word, credentials)) else match[1] + without(match[2])

    def scheme(match: re.Match[str]) -> str:
        is_prose = not _is_basic(match[3]) if match[1].lower() == "basic" else _is_word(match[3])
        return match[0] if is_prose else match[1] + match[2] + without(match[3])

    def element(match: re.Match[str]) -> str:
        return match[1] + without(match["text"]) if looks_secret(match["field"] or match["tag"]) else match[0]

    def redacted(text: str) -> str:
        text = _USER.sub(login, _SHAPES.sub(lambda match: without(match[0]), text))
        for pattern in (_SLASHED, _LOGIN, _ORACLE):
            text = pattern.sub(lambda match: match[1] + without(match[2]), text)
        text = _ELEMENT.sub(element, _SCHEME.sub(scheme, _HEADER.sub(header, text)))
        parts: list[str] = []
        end = start = 0
        while (name := _NAME.search(text, start)) is not None:
            start = name.end()
            is_secret = looks_secret_in_address((name["name"] or name[0]).strip("- "))
            value = _VALUE.match(text, start) if is_secret or _is_parameter(name) else None
            if value is not None and not (is_secret and _is_prose(name, value)):
                parts += text[end:start], without(value[0])
                end = start = value.end()
        return "".join((*parts, text[end:]))

    def unquoted(match: re.Match[str]) -> str:
        """Redact an address that is the parameter of another one, and show it unquoted."""
        if "%" not in match[0]:
            return match[0]
        before = len(secrets)
        clear = redacted(unquote(unquote(match[0])))
        return clear if len(secrets) > before else match[0]

    return _PIECE.sub(unquoted, redacted(text)), secrets


_PRIVATE_KEY = "PRIVATE KEY-----"
_HINTS = (
    *("akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "xox", "sk-", "k_live_", "k_test_", "whsec_"),
    *("aiza", "gocspx-", "ya29.", "npm_", "sg.", "hf_", "pypi-age", "hvs.", "hvb.", "hvr.", "hooks.slack", "eyj"),
    *("auth", "basic", "bearer", "code=", "connection", "cookie", "cred", "csrf", "dsn", "jwt", "key", "otp", "pass"),
    *("pem", "pw", "sas", "secret", "sess", "sig", "token", "x-amz", "x-goog", "contrasena", "kennwort"),
    *(
        "mot_",
        "mot-",
        "motd",
        "wachtwoord",
        "jdbc:",
        "-u ",
        "-u=",
        "-user",
        "%3d",
        "%40",
        *(f"pat{sign}" for sign in "=: \"'\\"),
    ),
)
"""In lower case, a part of each text in which `redact_text` can find a secret; for others it would take long."""


def without_secrets(text: str) -> str:
    """Return a text of a log or a report without secrets, line by line, because few lines need a search.

    Private keys and elements of XML can have several lines.
    """
    return _searched_once(text) if len(text) <= _REMEMBERED else _searched(text)


def _searched(text: str) -> str:
    lower = text.lower()
    if not (("@" in text and "://" in text) or any(hint in lower for hint in _HINTS) or _PRIVATE_KEY in text):
        return text
    if "\n" in text and _PRIVATE_KEY not in text and ">\n" not in text:
        return "\n".join(map(without_secrets, text.split("\n")))
    return redact_text(text)[0]


_REMEMBERED = 1000
"""Maximum number of characters of a text whose search is remembered. Ids, names and a line that passes a log and a
report are the same text several times."""
_searched_once = lru_cache(1024)(_searched)


def _is_parameter(name: re.Match[str]) -> bool:
    """Whether a name is that of a parameter of an address which can hold a secret: `?key=`, `?code=`."""
    return (
        name["name"] in ("key", "code")
        and name.string.endswith(("?", "&"), 0, name.start())
        and _MIXED.match(name.string, name.end()) is not None
    )


def _is_prose(name: re.Match[str], value: re.Match[str]) -> bool:
    """Whether an assignment to the name of a secret is part of a sentence: `wrong password: try again`.

    A part of a path (`/token=5/a.csv`), a short number (`pass=3`), a state (`auth: ok`), and code
    (`token = first(tokens)`) are no secrets either, unless they are a password. Otherwise it is one if its value is a
    word or a number, unless it is the value of a parameter, an option or a line.
    """
    sign = (name["sign"] or "=").strip()
    content = value[0].strip(_QUOTES)
    if not is_password(name["name"] or ""):
        part, slash, _ = content.partition("/")
        if slash and sign == "=" and name.string.endswith("/", 0, name.start()):
            return not may_be_token(part)
        if (value[0].isdigit() and len(content) < _SHORTEST) or (name["sign"] == " = " and _CALL.match(content)):
            return True
        if content.lower() in _STATES:
            return True
    is_json = sign[0] in _QUOTES and content != value[0]
    if sign == name["sign"] == "=" or name["option"] or is_json or not _is_word(content):
        return False
    text, is_certain = name.string, is_password(name["name"])
    before = text[max(0, name.start() - _INDENT) : name.start()]
    if sign != ":":
        return value[0].isdigit() and not is_certain
    starts_line = not before.rpartition("\n")[2].strip(" \t-{,;")
    ends = _END.match(text, value.end()) is not None
    return not (ends and (is_certain or (starts_line and not value[0].isdigit())))


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text.rstrip(".,;:!?")) is not None


def _is_basic(text: str) -> bool:
    """Whether a text is a user and a password in base64."""
    try:
        return b":" in base64.b64decode(text + "==")
    except ValueError:
        return False


def shown_address(address: str) -> str:
    """Return `address` for people, without secrets."""
    return Mask(secrets_in(address))(address)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    content = secret.encode("utf-8", "surrogatepass")
    for quoted in (quote(content, safe=""), quote(content), quote_plus(content), quote_plus(content, safe="/")):
        yield quoted
        yield re.sub("%..", lambda escape: escape[0].lower(), quoted)
    for shift in range(3):
        standard = _base64_core(content, shift)
        if len(standard) >= _SHORTEST:
            yield standard
            yield standard.translate(str.maketrans("+/", "-_"))


def _base64_core(secret: bytes, shift: int) -> str:
    """Return the base64 of `secret` after `shift` other bytes (modulo 3), without the characters that depend on the
    bytes before and after it."""
    text = base64.b64encode(bytes(shift) + secret).decode().rstrip("=")
    depends_on_next = (shift + len(secret)) % 3 != 0
    return text[(0, 2, 3)[shift] : len(text) - depends_on_next]
