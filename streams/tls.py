"""TLS towards Kafka and ClickHouse: certificates are always checked, and so are host names."""

import ssl

from models.errors import SettingsError


def tls_context(ca_file: str, name: str, cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Make a context that checks certificate and host name: by an authority of our own, or by the system's.

    Args:
        ca_file: Certificates of the authority; empty: the system's.
        name: The setting's first part, for the message.
        cert_file: Our own certificate, where the server asks for one.
        key_file: Its key; empty: it is in the same file.

    Raises:
        SettingsError: A file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise SettingsError(f"setting {name}_ca_file = {ca_file!r}: no readable certificates ({_why(error)})") from None
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file or None)
        except OSError as error:
            reason = f"no readable certificate and key without a password ({_why(error)})"
            raise SettingsError(f"setting {name}_cert_file = {cert_file!r}: {reason}") from None
    return context


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
