"""Certificates for a test: an authority, a server on loopback, clients."""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Certificates as files in a directory."""

    def __init__(self, directory: Path, address: str) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self._address = address
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.cert, self.key = directory / "tls.crt", directory / "tls.key"
        self.renew()

    def renew(self) -> None:
        """Write another certificate to the same files."""
        self._write(self._authority.issue_cert(self._address), self.cert, self.key)

    @property
    def variables(self) -> dict[str, object]:
        return {"http_tls_cert": self.cert, "http_tls_key": self.key}

    def client(self, *, known: bool = True) -> tuple[Path, Path]:
        """Certificate and key of a client, signed by the authority or by an unknown one."""
        authority = self._authority if known else trustme.CA()
        files = self._directory / "client.crt", self._directory / "client.key"
        self._write(authority.issue_cert("client@test"), *files)
        return files

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """The TLS context of a client that trusts the authority."""
        context = ssl.create_default_context(cafile=self.ca)
        if client is not None:
            context.load_cert_chain(*client)
        return context

    @staticmethod
    def _write(issued: trustme.LeafCert, cert: Path, key: Path) -> None:
        key.write_bytes(issued.private_key_pem.bytes())
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
