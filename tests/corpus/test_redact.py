import hashlib
import random
import string
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.redact import RedactRecipe, redact

LETTERS = string.ascii_letters + string.digits


def drawn(length, letters=LETTERS, seed=1):
    return "".join(random.Random(seed).choices(letters, k=length))


# Put together here, so that no scanner takes this file for a leak.
AWS = "AKIA" + drawn(16, string.ascii_uppercase + "234567")
GITHUB = "ghp" + "_" + drawn(36)
SLACK = "xoxb" + "-734519826401-734519826402-" + drawn(24)
GOOGLE = "AIza" + drawn(35)
STRIPE = "sk" + "_live_" + drawn(24)
HUGGING_FACE = "hf" + "_" + drawn(34, string.ascii_letters)
GITLAB = "glpat" + "-" + drawn(20)
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJzdWIiOiI0MjQyIiwibmFtZSI6IkphbmUgRG9lIiwiaWF0IjoxNzA0MDY3MjAwfQ"
    ".4pcPyMD09olPSyXnrXCjTwXyr4BsezdI1AVTmud2fU4"
)
TOKENS = {
    "aws-access-key": AWS,
    "github-token": GITHUB,
    "slack-token": SLACK,
    "google-api-key": GOOGLE,
    "stripe-access-key": STRIPE,
    "hugging-face-token": HUGGING_FACE,
    "gitlab-token": GITLAB,
    "json-web-token": JWT,
    "openai-token": "sk" + "-" + drawn(20) + "T3BlbkFJ" + drawn(20, seed=2),
    "anthropic-token": "sk-ant" + "-api03-" + drawn(40),
    "npm-token": "npm" + "_" + drawn(36),
    "pypi-token": "pypi-AgEIcHlwaS5vcmc" + drawn(90),
    "sendgrid-api-key": "SG" + f".{drawn(22)}.{drawn(43)}",
    "discord-token": "MTk" + drawn(21) + "." + drawn(6, seed=2) + "." + drawn(27, seed=3),
    "telegram-token": "4839574812:" + "AA" + drawn(33),
    "mailchimp-key": drawn(32, "0123456789abcdef") + "-us12",
    "artifactory-key": "AKCp" + drawn(69),
    "twilio-api-key": "SK" + drawn(32, "0123456789abcdef"),
}
PEM_LINES = [drawn(64, seed=n) for n in range(12)]


@pytest.mark.parametrize("sort", TOKENS)
def test_tokens_of_a_known_form(sort):
    for text in (f'x = "{TOKENS[sort]}"\n', f"Bearer {TOKENS[sort]}", TOKENS[sort]):
        assert redact(text) == (text.replace(TOKENS[sort], f"redacted-{sort}"), {sort: 1})


def test_tokens_that_touch_get_no_space_between():
    assert redact(GITHUB + GITHUB).text == "redacted-github-tokenredacted-github-token"
    assert redact(f"{SLACK},{GITHUB}").text == "redacted-slack-token,redacted-github-token"
    assert redact("<a@b.org><c@d.org>").text == "<name@example.com><name2@example.com>"
    assert redact("a@b.org@c.org").text == "name@example.com"


def test_equal_values_get_equal_constants():
    text = f"{AWS} 8.9.10.110 one@a.org two@a.org one@a.org 5.60.7.80 8.9.10.110 2a00:1450:4001:82f::200e"
    found = redact(text)
    assert found.text == (
        "redacted-aws-access-key 192.0.2.1 name@example.com name2@example.com name@example.com "
        "192.0.2.2 192.0.2.1 2001:db8::3"
    )
    assert found.counts == {"aws-access-key": 1, "ip-address": 4, "e-mail": 3}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Jane <jane.doe+code@mail.uni-x.ac.uk>.", "Jane <name@example.com>."),
        ('"mailto:jane@doe.de"', '"mailto:name@example.com"'),
        ("JANE@DOE.COM", "name@example.com"),
        ("jane@doe.cloud", "name@example.com"),
        ("jane.doe@mail.doe.xyz", "name@example.com"),
        ("请联系jane@doe.cn谢谢", "请联系name@example.com谢谢"),
        ("rené@doe.fr", "name@example.com"),
        ('"\\njane@doe.de"', '"\\nname@example.com"'),
        ("'pers\\u00f6n@doe.de'", "'persname@example.com'"),
        ("(jane@doe.de)", "(name@example.com)"),
        ("a=jane@doe.de;b", "a=name@example.com;b"),
    ],
)
def test_emails(text, redacted):
    assert redact(text) == (redacted, {"e-mail": 1})


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and x@mail.example.org and y@host.test and z@localhost and user@localhost",
        "git clone git@github.com:owner/name.git",
        "ssh://git@bitbucket.org/owner/name and https://token@host.com/x",
        "@foo.bar\ndef f(): ...\n@app.route('/')\n",
        'import x from "@scope/pkg.io"; "@babel/core": "^7"',
        "icon@2x.png lodash@4.17.21 text@v1.5.2 https://medium.com/@jane.doe",
        "y = (q@k.transpose()) + a@b.T + w@x.to(y)",
        "this@MainActivity.id; return@loop.it",
        "noreply@github.com 1234+jane@users.noreply.github.com"[:18],
        "getty@tty1.service foo@bar.py",
    ],
)
def test_what_is_no_email(text):
    assert redact(text) == (text, {})


def test_edges_are_told_without_word_boundaries():
    # `\b` inside brackets is a backspace: the peers' expressions have it there.
    assert redact("x\bjane@doe.de").text == "x\bname@example.com"
    assert redact("_8.9.10.110 8.9.10.110_ 18.9.10.1100 x8.9.10.110").counts == {}
    assert redact("[8.9.10.110] 8.9.10.110. 8.9.10.110:80").counts == {"ip-address": 3}


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 10.1.2.30 192.168.1.77 172.16.99.100 169.254.10.20 0.0.0.0 255.255.255.255 224.0.0.251",
        "192.0.2.17 198.51.100.200 203.0.113.99",
        "1.2.3.4 8.8.8.8 27.4.4.1 2.5.4.72",
        'version = "71.35.48.96"',
        "Version: 71.35.48.96, ver 71.35.48.96, v71.35.48.96, Chrome/91.0.4472.124",
        "pkg==71.35.48.96 pkg>=71.35.48.96 pkg-71.35.48.96.tar.gz 71.35.48.96-beta",
        "1.3.6.1.4.1.311.21 and 71.35.48.96.5 and 300.35.48.96 and 071.035.048.096",
        "91.40.0.0/16 91.40.10.99/24 91.40.10.0",
        "::1 fe80::1 2001:db8::7 std::vector a::b 2000::/3 2a00:1450::/32 10:20:30 2023:10:05",
    ],
)
def test_addresses_that_are_nobodys(text):
    assert redact(text) == (text, {})


@pytest.mark.parametrize(
    "text",
    [
        f"sha256: {hashlib.sha256(b'x').hexdigest()}",
        f'"integrity": "sha512-{drawn(86)}=="',
        f'token_hash = "{hashlib.sha1(b"x").hexdigest()}"',
        f"commit {hashlib.sha1(b'x').hexdigest()}",
        f'key = "{hashlib.md5(b"x").hexdigest()}"',
        f'api_key = "{uuid.UUID(int=2**127 + 3**70)}"',
        f'payload = "{drawn(40)}"',
        'secret = "AWS_SECRET_ACCESS_KEY_NAME"; token = "HiggsAudioV2TokenizerModel"',
        'api_key="YOUR-API-KEY-0000-goes-here1"; aws = "AKIAIOSFODNN7EXAMPLE"',
        'password = "hunter2"; get_token(user_token=access_token_for_the_user_2)',
        "https://user:password@host.org/ http://guest:guest@host.org redis://u:${PASSWORD}@host.org",
        "amqp://me:pa55word9@localhost:5672",
        'if "-----BEGIN RSA PRIVATE KEY-----" in text: text.split("-----END RSA PRIVATE KEY-----")',
        "-----BEGIN CERTIFICATE-----\n" + "\n".join(PEM_LINES) + "\n-----END CERTIFICATE-----\n",
        "SK" + drawn(40, "0123456789abcdef") + " x" + AWS + "Y",
    ],
)
def test_what_is_no_secret(text):
    assert redact(text) == (text, {})


@pytest.mark.parametrize(
    "before",
    [
        'api_key = "',
        "apiKey: '",
        '"client_secret": "',
        "export AUTH_TOKEN=",
        'set_password("',
        "secret => '",
        "key = '",
    ],
)
def test_random_strings_beside_a_name(before):
    end = before[-1] if before[-1] in "\"'" else ""
    text = f"{before}{drawn(40)}{end}\n"
    assert redact(text) == (f"{before}redacted-secret{end}\n", {"secret": 1})


def test_hex_beside_a_name_that_is_sure():
    assert redact(f"SECRET_KEY = '{drawn(32, '0123456789abcdef')}'").counts == {"secret": 1}


def test_passwords_in_addresses():
    found = redact("postgres://app:Tr0ub4dor&3@db.host.org:5432/x")
    assert found == ("postgres://app:redacted-password-in-url@db.host.org:5432/x", {"password-in-url": 1})


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys_are_replaced_whole(kind):
    begin, end = f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----"
    plain = f"KEY = '''\n{begin}\n" + "\n".join(PEM_LINES) + f"\n{end}\n'''\n"
    assert redact(plain) == ("KEY = '''\nredacted-private-key\n'''\n", {"private-key": 1})
    pieces = f'k = "{begin}\\n" +\n' + "".join(f'    "{line}\\n" +\n' for line in PEM_LINES) + f'    "{end}\\n";'
    assert redact(pieces) == ('k = "redacted-private-key\\n";', {"private-key": 1})
    escaped = f'{{"key": "{begin}\\n' + "\\n".join(PEM_LINES) + f'\\n{end}\\n"}}'
    assert redact(escaped) == ('{"key": "redacted-private-key\\n"}', {"private-key": 1})
    cut = f"{begin}\n" + "\n".join(PEM_LINES) + "\n\ndef f():\n    pass\n"
    assert redact(cut).text == "redacted-private-key\n\ndef f():\n    pass\n"


def test_a_recipe_says_what_is_replaced():
    text = f"{GITHUB} jane@doe.de 8.9.10.110"
    assert redact(text, RedactRecipe(enabled=False)) == (text, {})
    assert redact(text, RedactRecipe(emails=False)).counts == {"github-token": 1, "ip-address": 1}
    assert redact(text, RedactRecipe(secrets=False)).counts == {"e-mail": 1, "ip-address": 1}
    assert redact(text, RedactRecipe(ip_addresses=False)).counts == {"github-token": 1, "e-mail": 1}


PIECES = [
    *TOKENS.values(),
    *("jane@doe.de", "8.9.10.110", "2a00:1450:4001:82f::200e", "redis://app:Tr0ub4dor@h.org", "version", "1.2.3.4"),
    *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", *PEM_LINES[:3], 'api_key="', "token=", drawn(24)),
    *(" ", "\n", "\\n", '"', "'", "@", ".", ":", "-", "=", "/", "x", "://", "example.com", "é", "=="),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_redacting_twice_is_redacting_once(text):
    once = redact(text)
    assert redact(once.text) == (once.text, {})
    assert once == redact(text)


@given(st.text())
def test_any_text_is_redacted_without_an_error(text):
    assert isinstance(redact(text).text, str)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "eyJ",
            "eyJ-",
            "sk-",
            "ghp_",
            "xoxb-1-",
            "glagent-",
            "AKIA",
            "-----BEGIN ",
            "token=",
            'key="',
            "'a",
            "a" * 39 + "/",
        ),
        *("a@", "a.b@", "@a-", "@a.", "1.", ".1", "20a0:", "://a:"),
    ],
)
def test_hostile_repetition_takes_linear_time(piece):
    text = (AWS + " T3BlbkFJ " + piece * (300_000 // len(piece)))[:300_000]
    started_s = time.process_time()
    redact(text)
    assert time.process_time() - started_s < 10
