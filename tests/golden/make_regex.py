"""Pieces that tokenizers cuts a text into by patterns of Oniguruma's syntax, for tests/tokenizer/regex_test.cpp. usage: make_regex.py OUTPUT (tests/golden/tokenizer/regex.json);
made with tokenizers 0.23.3. A list of lengths in bytes for each pattern and text; null: tokenizers refuses the pattern."""
import itertools
import json
import sys

from tokenizers import Regex, pre_tokenizers

TEXTS = [
    "aA1_\u00e9\u0663 \u00b2\n\r\n\tx\u2212y \u4e2d\u6587 \u0130\u017fK\u2028z\u0301$ don't We'LL I'M 0000 12345 a-b_c [x] {y} ^&~ \u00a0\u3000 \u0915\u094d\u0937 \U0001F468\u200d\U0001F469",
    "the cat\n\nsat\r\non  the mat   \n", "aaaa bbbb\taab  abab ABAB \u00df ss St \ufb06 \u212a k\u00c5\u212b", "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u041f\u0440\u0438\u0432\u0435\u0442 \u03b1\u03b2\u03b3 \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "", "x", "\n", "p{L} pL \\d {2} a{ a{x}", "\u24b6\u24d0 \u2167 \u00aa\u00ba \u203f\u0660 \u180e\u200b\u0085\u1680",
]
ATOMS = ["a", ".", r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\h", r"\H", r"\R", r"\X", r"\N", r"\O", r"\p{L}", r"\p{^L}", r"\P{L}", r"\P{^L}", "[a-c]", "[^a-c]", r"[\w&&[^_]]", r"[\p{L}&&[^\p{Han}]]", "[[a-z]&&[aeiou]]",
         "[^a-z&&[aeiou]]", "[a[0-9]]", "[^a[0-9]]", "[[:alpha:]]", "[[:^alpha:]]", "[^[:alpha:]]", "[[:punct:]]", "[[:space:]]", "[[:word:]]", "[[:upper:]]", "[[:lower:]]", "[[:alnum:]]", "[[:digit:]]", "[[:blank:]]", "[[:graph:]]",
         "[[:print:]]", "[[:cntrl:]]", "[[:xdigit:]]", "[[:ascii:]]", r"\u0061", r"[\u0061-\u007a]", r"\x{4e2d}", r"\x41", "(?i:k)", "(?i:a)", "(?i:[a-c])", "(?m:.)", "(?:ab|a)", "(?>a|ab)", "(ab)", "(?<n>a)"]
REPEATS = ["", "+", "*", "?", "??", "+?", "*?", "++", "?+", "*+", "{2}", "{1,3}", "{,2}", "{2,}", "{1,3}+", "{1,3}?", "{2}+", "{2}?", "{1,2}*", "+*", "{1,2}{2}"]
OTHERS = [r"\s{16}(?!\S)|\s{2,12}|\s", "^", "$", "^.", ".$", r"\s+$", r"^\s+", r"\A.", r".\z", r".\Z", r"\G.", r"\b", r"\B", r"\b\w", r"\B.", r"\s+(?!\S)|\s", r"(?<=a)b", r"(?<!a)b", r"(?<=a|bb)b", r"a(?=b)", r"a(?!b)", "a|", "|a", "", "()", "(?:)", "(?i)a", "a(?i)b|c", "(?i)k", r"(?-i)a", "(?i)[a-c]+",
          "(?m).+", "(?m:.+)", "(?mi)A.", "(?x) a b # c\n", "(?x: a  b)", "(?#c)a", r"(a)\1", r"(?<n>a)\k<n>", r"(a)(b)\2", "(?<n>a)(b)", r"[]a]", r"[^]a]", r"[a\]]", r"[b\-a]", "[a-c-e]", "[-a]", "[a-]", "[a&b]", "[a&&]", "[&&a]", "[a-z&&a-c&&b]", "[^a&&b]", r"[\d\s]", r"[^\d\s]",
          r"[\D]", r"[^\D]", r"[\W_]", r"[^\W_]+", r"[\p{L}\p{N}]+", r"[\p{^L}]+", r"[\P{L}]+", r"[^\P{L}]+", "[[a]]", "[[^a]]", "[^[^a]]", "[a[^b]]", r"[\h]", r"[^\h]", r"[\R]", r"[\X]", r"[\b]", r"[\n\r]", "[(]", "[|.,]", r" ?[^(\s|.,!?)]+", "a{", "a{x}", "a{,}", "a{1", "{", "a}", "]", r"\{2\}", r"a\+", r"\-", r"\'",
          r"\p{Letter}+", r"\p{lu}", r"\p{Uppercase_Letter}", r"\p{Alphabetic}+", r"\p{Any}", r"\p{Assigned}", r"\p{ASCII}+", r"\p{Zs}", r"\p{M}", r"\p{Mark}", r"\p{Punct}", r"\p{Digit}", r"\p{Space}", r"\p{XDigit}", r"\p{Blank}", r"\p{Cntrl}", r"\p{Graph}", r"\p{Print}", r"\p{Upper}", r"\p{Lower}", r"\p{Alnum}",
          r"\p{Word}", r"\p{Han}", r"\p{Latin}", r"\p{Greek}+", r"\p{Cyrillic}+", r"\p{Arabic}+", r"\p{Hebrew}+", r"\p{Thai}+", r"\p{Hiragana}+", r"\p{Hangul}+", r"\p{Common}", r"\p{Inherited}", r"\p{Devanagari}", r"\p{L&}", r"\p{LC}", r"\p{Cased_Letter}", r"\p{S}", r"\p{P}+", r"\p{Sm}", r"\p{Emoji}", r"\p{Nd}", r"\p{No}",
          r"\p{In_Basic_Latin}", r"\p{IsHan}", r"\p{Script=Han}", r"\p{sc:Han}", r"\p{Nonsense}", r"\pL", r"\p{L", r"\Qa\E", r"\e", r"\a", r"\v", r"\f", r"\t", r"\0", r"\101", r"\cA", r"\C-a", r"\M-a", r"\x", r"\u00", r"\x{61 62}", r"\x{110000}", r"\u{61}", r"\K", r"a\Kb", r"\y", r"\Y", r"(?y{g})a", r"(?W)\w", r"(?D)\d", r"(?S)\s",
          r"(?P)\p{L}", "(?s).", "(?a)a", "(?u)a", "(?~a)", "(?(1)a|b)", "(?{x})", "(*FAIL)", "(?P<n>a)", r"(?'n'a)", r"\g<1>", r"(a)\g<1>", r"\1", "*", "+a", "a|*", "(", ")", "[", "a**", "^*", r"\b+", "(?=a)*", "a{3,1}", "a{100001}", "[z-a]", r"[a-\d]", "[]", "[^]", r"\\", "a\\",
          "(?i)\u00df", "(?i)ss", "(?i)st", "(?i)[\u00df]", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i)\u212a", "(?i)\u00e9", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
          r"[^\p{L}\p{M}\p{N}\s]+", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(\d{3})+(?!\d))", r"[\p{L}&&[^\p{Han}\p{Latin}]]+|\p{Han}+|.", r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", r"\s?\p{L}+", r"'(?i:[sdmt]|ll|ve|re)", r"\p{N}{1,3}+|."]


def pieces(pattern, text, behavior="isolated", invert=False):
    return [len(piece.encode()) for piece, _ in pre_tokenizers.Split(Regex(pattern), behavior, invert).pre_tokenize_str(text)]


cases = []
for pattern in dict.fromkeys([a + r for a, r in itertools.product(ATOMS, REPEATS)] + OTHERS):
    try:
        cases.append([pattern, [pieces(pattern, t) for t in TEXTS]])
    except Exception:
        cases.append([pattern, None])
behaviors = []
for pattern in ["a*", "", "a", r"\s*", r"\b", "$", "a|b*"]:
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            behaviors.append([pattern, behavior, invert, [pieces(pattern, t, behavior, invert) for t in TEXTS]])
with open(sys.argv[1], "w") as file:
    file.write(json.dumps({"texts": TEXTS})[:-1] + ',\n"cases": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + '],\n"behaviors": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in behaviors) + "]}\n")
print(len(cases), "patterns,", sum(c[1] is None for c in cases), "refused")
