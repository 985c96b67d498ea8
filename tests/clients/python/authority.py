"""An authority made for the occasion, for brokers that are reached over TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates for these addresses, in a directory."""

    def __init__(self, directory: Path, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.directory, self.addresses = directory, addresses
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brokers' authority")])
        self.certificate = directory / "ca.pem"
        self.certificate.write_bytes(self.sign(self.name, self.key, is_authority=True))

    def sign(self, subject: x509.Name, key, is_authority: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        listed = [x509.IPAddress(ipaddress.ip_address(address)) for address in self.addresses]
        built = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(listed), critical=False)
        )
        return built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate.write_bytes(self.sign(subject, key))
        private.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
        return certificate, private
