r"""Java's `.properties` format: what Kafka's `server.properties` is written in.

Comments begin with `#` or `!`; a line that ends in an odd number of backslashes goes on in the
next, whose leading blanks are dropped; the key ends at the first unescaped `=`, `:` or blank;
`\t \n \r \f \uXXXX` are escapes and a backslash before anything else is dropped. Of a key that
is given twice, the last counts. Files are read as UTF-8.

Source: the documentation of `java.util.Properties.load`.
"""

from collections.abc import Iterator

from fastmq.errors import ConfigError

__all__ = ["parse_properties"]

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str, *, name: str) -> list[tuple[str, str, int]]:
    r"""Return (key, value, line number) for each entry, in the order of the file.

    Args:
        text: the content of the file.
        name: what to call the file in errors.

    Raises:
        ConfigError: a `\u` escape is not followed by four hexadecimal digits.
    """
    entries = []
    for line, number in _logical_lines(text):
        split = _key_end(line)
        key = _unescape(line[:split], name, number)
        value = line[split:].lstrip(_BLANKS)
        if value[:1] in ("=", ":"):
            value = value[1:].lstrip(_BLANKS)
        entries.append((key, _unescape(value, name, number), number))
    return entries


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield lines with their continuations joined, without comments and blank lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    index = 0
    while index < len(lines):
        first = index
        line = lines[index].lstrip(_BLANKS)
        index += 1
        if not line or line[0] in "#!":
            continue
        while _goes_on(line):
            line = line[:-1]
            if index == len(lines):
                break
            line += lines[index].lstrip(_BLANKS)
            index += 1
        yield line, first + 1


def _goes_on(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _key_end(line: str) -> int:
    index = 0
    while index < len(line):
        if line[index] == "\\":
            index += 1
        elif line[index] in "=:" or line[index] in _BLANKS:
            return index
        index += 1
    return len(line)


def _unescape(text: str, name: str, number: int) -> str:
    if "\\" not in text:
        return text
    out = []
    index = 0
    while index < len(text):
        char = text[index]
        index += 1
        if char != "\\" or index == len(text):
            out.append(char if char != "\\" else "")
            continue
        char = text[index]
        index += 1
        if char == "u":
            digits = text[index : index + 4]
            index += 4
            if len(digits) < 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise ConfigError(f"{name}:{number}: \\u needs four hexadecimal digits")
            out.append(chr(int(digits, 16)))
        else:
            out.append(_ESCAPES.get(char, char))
    # Java's escapes are UTF-16: two of them may be one character.
    return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
