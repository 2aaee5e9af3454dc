"""Redacting the standard library's source: ours against detect-secrets' own scanner, as BigCode's pipeline runs it.

The peer writes each text to a temporary file, scans it line by line and checks every finding; only its plugins for
tokens of a known form, private keys and passwords in addresses are on, so that it does no more than ours.
"""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

from detect_secrets import SecretsCollection
from detect_secrets.settings import transient_settings
from paired import compare

from codecria.corpus.redact import redact

PLUGINS = """
AWSKeyDetector BasicAuthDetector GitHubTokenDetector GitLabTokenDetector JwtTokenDetector OpenAIDetector
PrivateKeyDetector PypiTokenDetector SendGridDetector SlackDetector SquareOAuthDetector StripeDetector TwilioKeyDetector
"""


def main() -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(errors="ignore") for path in sorted(library.glob("*.py"))]
    size = sum(len(text.encode()) for text in texts)

    def run_ours() -> int:
        for text in texts:
            redact(text)
        return size

    def run_peer() -> int:
        with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS.split()]}):
            for text in texts:
                with tempfile.NamedTemporaryFile("w") as file:
                    file.write(text)
                    file.flush()
                    SecretsCollection().scan_file(file.name)
        return size

    compare(
        run_ours,
        run_peer,
        unit="bytes_per_s",
        peer_name="detect-secrets SecretsCollection.scan_file, 13 plugins, no e-mail or IP addresses",
        packages=["codecria", "detect-secrets"],
        pairs=3,
    )


if __name__ == "__main__":
    main()
