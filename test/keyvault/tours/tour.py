"""A tour of every public method of Microsoft's Key Vault clients for Python.

It calls each method of the blocking and of the asyncio clients against a vault
and a managed HSM, checks what comes back, and prints one line a method: its
name, a tab, and ok, "refused as expected (why)" or "FAILED (why)". A public
method that was not called has failed. The clients are as they come from PyPI;
certificates and challenge resources are verified.
"""

import asyncio
import base64
import datetime
import hashlib
import inspect
import json
import os
import ssl
import traceback
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version

from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest
from azure.identity import (CertificateCredential, ClientSecretCredential, DefaultAzureCredential,
                            EnvironmentCredential, ManagedIdentityCredential)
from azure.identity import aio as aio_identity
from azure.keyvault import certificates, keys, secrets
from azure.keyvault.certificates import aio as aio_certificates
from azure.keyvault.keys import aio as aio_keys, crypto
from azure.keyvault.keys.crypto import aio as aio_crypto
from azure.keyvault.secrets import aio as aio_secrets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

VAULTS, HSMS = os.environ["TOUR_VAULTS"].split(), os.environ["TOUR_HSMS"].split()
ENCRYPT, SIGN, WRAP = crypto.EncryptionAlgorithm, crypto.SignatureAlgorithm, crypto.KeyWrapAlgorithm
LOOP = asyncio.new_event_loop()

# What the blocking clients call begin_x(...).result(), those of asyncio call x(...).
BLOCKING = {"begin_create_certificate", "begin_delete_certificate", "begin_delete_key", "begin_delete_secret",
            "begin_recover_deleted_certificate", "begin_recover_deleted_key", "begin_recover_deleted_secret"}


class Done:
    """The answer of an asyncio method in the form of a poller."""

    def __init__(self, value):
        self.value = value

    def result(self):
        return self.value

    def wait(self):
        pass


class Tour:
    """Keeps the verdict on each method."""

    def __init__(self, name):
        self.name, self.verdicts, self.last, self.expected = name, {}, None, None

    def guide(self, client):
        """Wraps a client so that its calls are noted."""
        return Guide(self, client)

    def note(self, label, verdict):
        if self.verdicts.get(label, "ok") == "ok" or verdict.startswith("FAILED"):
            self.verdicts[label] = verdict

    @contextmanager
    def refused(self, why, status):
        """Says that the call inside is refused with that status."""
        self.expected = (why, status)
        try:
            yield
        except HttpResponseError as e:
            if e.status_code != status:
                raise
            self.note(self.last, f"refused as expected ({why})")
        else:
            raise AssertionError(f"was not refused: {why}")
        finally:
            self.expected = None

    def leg(self, walk, *args):
        """Walks one part; what breaks it is the last called method's failure."""
        try:
            walk(self, *args)
        except Exception as e:  # the tour goes on
            if os.environ.get("TOUR_TRACE"):
                traceback.print_exc()
            self.note(self.last or walk.__name__, "FAILED (%s: %s)" % (type(e).__name__, " ".join(str(e).split())[:300]))

    def report(self, *classes):
        for cls in classes:
            for method in dir(cls):
                if not method.startswith("_"):
                    self.verdicts.setdefault(f"{cls.__name__}.{method}", "FAILED (not called)")
        for label in sorted(self.verdicts):
            print(f"{self.name} {label}\t{self.verdicts[label]}", flush=True)


class Guide:
    def __init__(self, tour, client):
        self._tour, self._client = tour, client

    def __getattr__(self, name):
        tour, client = self._tour, self._client
        real = name
        if name in BLOCKING and not hasattr(client, name):
            real = name.removeprefix("begin_")
        label = f"{type(client).__name__}.{real}"
        tour.last = label
        member = getattr(client, real)
        if not callable(member):
            tour.note(label, "ok")
            return member

        def call(*args, **kwargs):
            tour.last = label
            out = member(*args, **kwargs)
            if inspect.isawaitable(out):
                out = LOOP.run_until_complete(out)
                if real != name:
                    out = Done(out)
            elif hasattr(out, "__aiter__"):
                out = LOOP.run_until_complete(collect(out))
            elif hasattr(out, "by_page"):
                out = list(out)
            elif hasattr(out, "polling_method") or hasattr(out, "result") and not isinstance(out, Done):
                out = Watched(tour, label, out)
            if isinstance(out, (crypto.CryptographyClient, aio_crypto.CryptographyClient)):
                out = tour.guide(out)
            tour.note(label, "ok")
            return out

        return call


class Watched:
    """A poller whose trouble is its method's."""

    def __init__(self, tour, label, poller):
        self._tour, self._label, self._poller = tour, label, poller

    def __getattr__(self, name):
        self._tour.last = self._label
        return getattr(self._poller, name)


async def collect(pages):
    return [item async for item in pages]


def same(got, want, what):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


def attestation_token():
    with urllib.request.urlopen(os.environ["TOUR_ATTESTATION"] + "/generate-test-token",
                                context=ssl.create_default_context()) as answer:
        return json.load(answer)["token"]


def list_keys(tour, client, hw, kty):
    made = {client.create_key(f"list{i}", kty("EC")).name for i in range(3)}
    same(made - {k.name for k in client.list_properties_of_keys(max_page_size=2)}, set(), "keys not listed")
    client.create_key("list0", kty("EC"))
    same(len(client.list_properties_of_key_versions("list0")), 2, "versions of list0")


def make_keys(tour, client, hw, kty):
    expires = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=90)
    k = client.create_rsa_key("rsa", size=3072, hardware_protected=hw, expires_on=expires, tags={"a": "b"})
    same((k.key_type, len(k.key.n), k.properties.expires_on, k.properties.tags), (kty("RSA"), 384, expires, {"a": "b"}), "key made")
    k = client.create_ec_key("ec", curve="P-384", hardware_protected=hw, key_operations=["sign"])
    same((k.key_type, k.key.crv, k.key_operations), (kty("EC"), "P-384", ["sign"]), "key made")
    k = client.update_key_properties("ec", enabled=False, tags={"c": "d"}, key_operations=["sign", "verify"])
    same((k.properties.enabled, k.properties.tags, k.key_operations), (False, {"c": "d"}, ["sign", "verify"]), "key updated")
    same(client.get_key("ec", k.properties.version).id, k.id, "key read")


def symmetric_keys(tour, client, hw, kty):
    if not hw:
        with tour.refused("symmetric keys are for managed HSMs", 400):
            client.create_oct_key("oct", size=256)
        return
    k = client.create_oct_key("oct", size=256, hardware_protected=True)
    same(k.key_type, "oct-HSM", "key made")
    c = client.get_cryptography_client("oct")
    e = c.encrypt(ENCRYPT.a256_gcm, b"plain", additional_authenticated_data=b"with")
    same(c.decrypt(ENCRYPT.a256_gcm, e.ciphertext, iv=e.iv, authentication_tag=e.tag, additional_authenticated_data=b"with").plaintext, b"plain", "decrypted")
    w = c.wrap_key(WRAP.aes_256, b"k" * 32)
    same(c.unwrap_key(WRAP.aes_256, w.encrypted_key).key, b"k" * 32, "unwrapped")


def import_keys(tour, client, hw, kty):
    private = rsa.generate_private_key(65537, 2048)
    n, numbers = private.public_key().public_numbers().n, private.private_numbers()
    raw = lambda i: i.to_bytes((i.bit_length() + 7) // 8, "big")
    jwk = keys.JsonWebKey(kty=kty("RSA"), key_ops=["sign", "verify", "decrypt"], n=raw(n), e=raw(65537), d=raw(numbers.d), p=raw(numbers.p),
                          q=raw(numbers.q), dp=raw(numbers.dmp1), dq=raw(numbers.dmq1), qi=raw(numbers.iqmp))
    k = client.import_key("imported", jwk, hardware_protected=hw, tags={"e": "f"})
    same((k.key.n, k.properties.tags), (raw(n), {"e": "f"}), "key imported")
    digest = hashlib.sha256(b"text").digest()
    signature = client.get_cryptography_client("imported").sign(SIGN.rs256, digest).signature
    private.public_key().verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))


def delete_keys(tour, client, hw, kty):
    made = client.create_key("gone", kty("EC"))
    same(client.begin_delete_key("gone").result().recovery_id.endswith("/deletedkeys/gone"), True, "recovery id")
    same(client.get_deleted_key("gone").name, "gone", "deleted key")
    same("gone" in [k.name for k in client.list_deleted_keys()], True, "listed as deleted")
    same(client.begin_recover_deleted_key("gone").result().id, made.id, "recovered")
    client.begin_delete_key("gone").wait()
    client.purge_deleted_key("gone")
    same("gone" in [k.name for k in client.list_deleted_keys()], False, "listed after the purge")


def backup_keys(tour, client, hw, kty):
    made = client.create_key("saved", kty("EC"))
    blob = client.backup_key("saved")
    client.begin_delete_key("saved").wait()
    client.purge_deleted_key("saved")
    same(client.restore_key_backup(blob).id, made.id, "restored")


def rotate_keys(tour, client, hw, kty):
    first = client.create_key("turning", kty("RSA"))
    policy = client.update_key_rotation_policy("turning", keys.KeyRotationPolicy(), expires_in="P90D", lifetime_actions=[
        keys.KeyRotationLifetimeAction(keys.KeyRotationPolicyAction.rotate, time_after_create="P60D")])
    same((policy.expires_in, {a.action.lower() for a in policy.lifetime_actions}), ("P90D", {"rotate", "notify"}), "policy set")
    same(client.get_key_rotation_policy("turning").expires_in, "P90D", "policy read")
    second = client.rotate_key("turning")
    same((second.properties.version == first.properties.version, second.properties.expires_on is None), (False, False), "rotated")


def random_bytes(tour, client, hw, kty):
    if hw:
        same(len(client.get_random_bytes(32)), 32, "random bytes")
        return
    with tour.refused("random bytes come from a managed HSM", 400):
        client.get_random_bytes(32)


def release_keys(tour, client, hw, kty):
    policy = keys.KeyReleasePolicy(json.dumps({"version": "1.0.0", "anyOf": [{"authority": os.environ["TOUR_ATTESTATION"],
                                   "allOf": [{"claim": "sdk-test", "equals": "true"}]}]}).encode())
    client.create_rsa_key("released", hardware_protected=True, exportable=True, release_policy=policy, key_operations=["encrypt", "decrypt"])
    same(client.release_key("released", attestation_token()).value.count("."), 2, "parts of the JWS")


def attest_keys(tour, client, hw, kty):
    made = client.create_ec_key("attested", hardware_protected=True)
    proof = client.get_key_attestation("attested").properties.attestation
    chain = x509.load_pem_x509_certificates(proof.certificate_pem_file)
    for i, token in enumerate((proof.private_key_attestation, proof.public_key_attestation)):
        signed, _, signature = token.rpartition(b".")
        chain[0].public_key().verify(unbase64(signature), signed, padding.PKCS1v15(), hashes.SHA256())
        said = json.loads(unbase64(signed.split(b".")[1]))
        same((said["kid"], said["part"], said["exportable"]), (made.id, ("private", "public")[i], False), "attested")
    chain[0].verify_directly_issued_by(chain[1])


def unbase64(text):
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def use_keys(tour, client, hw, kty, cls, credential):
    k = client.create_rsa_key("used", size=2048, hardware_protected=hw)
    c = client.get_cryptography_client("used")
    same((c.key_id, c.vault_url), (k.id.rsplit("/", 1)[0], k.properties.vault_url), "key id and vault")
    for algorithm in (SIGN.rs256, SIGN.ps512):
        digest = hashlib.new("sha" + algorithm.value[-3:], b"text").digest()
        same(c.verify(algorithm, digest, c.sign(algorithm, digest).signature).is_valid, True, algorithm)
    for name in ("rsa_oaep", "rsa_oaep_256", "rsa1_5"):
        algorithm, wrap = getattr(ENCRYPT, name), getattr(WRAP, name)
        same(c.decrypt(algorithm, c.encrypt(algorithm, b"plain").ciphertext).plaintext, b"plain", algorithm)
        same(c.unwrap_key(wrap, c.wrap_key(wrap, b"key").encrypted_key).key, b"key", algorithm)
    # With the key's address alone, a client without the key asks the service.
    alone = tour.guide(cls(k.id, credential))
    same(alone.decrypt(ENCRYPT.rsa_oaep_256, alone.encrypt(ENCRYPT.rsa_oaep_256, b"plain").ciphertext).plaintext, b"plain", "by address")
    if hasattr(cls, "create_rsa_private_key"):
        private, public = c.create_rsa_private_key(), c.create_rsa_public_key()
        signature = private.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
        public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())
        same(private.decrypt(public.encrypt(b"plain", padding.PKCS1v15()), padding.PKCS1v15()), b"plain", "through cryptography's interface")
    local = tour.guide(cls.from_jwk(k.key))
    tour.note(f"{cls.__name__}.from_jwk", "ok")
    digest = hashlib.sha256(b"text").digest()
    same(local.verify(SIGN.rs256, digest, c.sign(SIGN.rs256, digest).signature).is_valid, True, "checked without the vault")
    direct = c.send_request(HttpRequest("POST", k.id + "/encrypt?api-version=7.5", json={"alg": "RSA-OAEP-256", "value": "cGxhaW4"}))
    same((direct.status_code, bool(direct.json()["value"])), (200, True), "encrypt by the service")
    for curve, algorithm in (("P-256", SIGN.es256), ("P-384", SIGN.es384), ("P-521", SIGN.es512), ("P-256K", SIGN.es256_k)):
        e = client.create_ec_key("used-" + curve, curve=curve, hardware_protected=hw)
        on = client.get_cryptography_client(e.name)
        digest = hashlib.new("sha" + algorithm.value[2:5], b"text").digest()
        same(on.verify(algorithm, digest, on.sign(algorithm, digest).signature).is_valid, True, algorithm)
    alone.close()


def ends(tour, client, path):
    same(client.vault_url.startswith("https://"), True, "vault_url")
    same(client.send_request(HttpRequest("GET", client.vault_url.rstrip("/") + path + "?api-version=7.5")).status_code, 200, "send_request")
    client.close()


def tour_keys(host, url, key_client, crypto_client, credential):
    hw = url in HSMS
    kty = lambda family: family + "-HSM" if hw else family
    tour = Tour(host)
    client = tour.guide(key_client(url, credential))
    for leg in (make_keys, list_keys, symmetric_keys, import_keys, delete_keys, backup_keys, rotate_keys, random_bytes, release_keys, attest_keys):
        tour.leg(leg, client, hw, kty)
    tour.leg(use_keys, client, hw, kty, crypto_client, credential)
    tour.leg(ends, client, "/keys")
    tour.report(key_client, crypto_client)


def make_secrets(tour, client):
    s = client.set_secret("one", "first", content_type="text/plain", tags={"a": "b"})
    same((s.value, s.properties.content_type, s.properties.tags), ("first", "text/plain", {"a": "b"}), "secret set")
    second = client.set_secret("one", "second ü 日本")
    same((client.get_secret("one").value, client.get_secret("one", s.properties.version).value), ("second ü 日本", "first"), "secret read")
    u = client.update_secret_properties("one", second.properties.version, enabled=False, tags={"c": "d"})
    same((u.enabled, u.tags), (False, {"c": "d"}), "secret updated")
    same(len(client.list_properties_of_secret_versions("one")), 2, "versions of one")
    made = {client.set_secret(f"list{i}", "x").name for i in range(30)}
    same(made - {s.name for s in client.list_properties_of_secrets()}, set(), "secrets not listed")


def disabled_secrets(tour, client):
    client.set_secret("off", "x", enabled=False)
    try:
        client.get_secret("off")
    except HttpResponseError as e:
        same((e.status_code, e.error.code, e.error.innererror["code"]), (403, "Forbidden", "SecretDisabled"), "a disabled secret")
    else:
        raise AssertionError("a disabled secret was read")


def delete_secrets(tour, client):
    client.set_secret("gone", "value")
    same(client.begin_delete_secret("gone").result().recovery_id.endswith("/deletedsecrets/gone"), True, "recovery id")
    same(client.get_deleted_secret("gone").name, "gone", "deleted secret")
    same("gone" in [s.name for s in client.list_deleted_secrets()], True, "listed as deleted")
    same(client.begin_recover_deleted_secret("gone").result().name, "gone", "recovered")
    blob = client.backup_secret("gone")
    client.begin_delete_secret("gone").wait()
    client.purge_deleted_secret("gone")
    same(client.restore_secret_backup(blob).name, "gone", "restored")
    same(client.get_secret("gone").value, "value", "restored value")


def tour_secrets(host, url, cls, credential):
    tour = Tour(host)
    client = tour.guide(cls(url, credential))
    for leg in (make_secrets, disabled_secrets, delete_secrets):
        tour.leg(leg, client)
    tour.leg(ends, client, "/secrets")
    tour.report(cls)


def policy_for(issuer="Self", **kwargs):
    return certificates.CertificatePolicy(issuer_name=issuer, subject="CN=tour.example", san_dns_names=["tour.example"], **kwargs)


def make_certificates(tour, client):
    policy = policy_for(key_type="EC", key_curve_name="P-256", content_type="application/x-pem-file", validity_in_months=6,
                        san_ip_addresses=["192.0.2.1"], san_uris=["https://tour.example/x"], key_usage=["digitalSignature"],
                        lifetime_actions=[certificates.LifetimeAction("AutoRenew", lifetime_percentage=80)])
    made = client.begin_create_certificate("self", policy, tags={"a": "b"}).result()
    parsed = x509.load_der_x509_certificate(bytes(made.cer))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    same((names.get_values_for_type(x509.DNSName), [str(a) for a in names.get_values_for_type(x509.IPAddress)],
          names.get_values_for_type(x509.UniformResourceIdentifier)), (["tour.example"], ["192.0.2.1"], ["https://tour.example/x"]), "names")
    same((made.properties.tags, made.properties.x509_thumbprint), ({"a": "b"}, hashlib.sha1(bytes(made.cer)).digest()), "certificate made")
    same(client.get_certificate("self").policy.key_curve_name, "P-256", "certificate read")
    same(client.get_certificate_version("self", made.properties.version).cer, made.cer, "version read")
    same(client.get_certificate_policy("self").validity_in_months, 6, "policy read")
    changed = client.update_certificate_policy("self", policy_for(key_type="RSA", key_size=2048, validity_in_months=3))
    same((changed.validity_in_months, changed.key_type), (3, "RSA"), "policy changed")
    same(client.update_certificate_properties("self", tags={"c": "d"}, enabled=True).properties.tags, {"c": "d"}, "properties changed")
    client.begin_create_certificate("self", changed).wait()
    same(len(client.list_properties_of_certificate_versions("self")), 2, "versions of self")
    same("self" in [c.name for c in client.list_properties_of_certificates(include_pending=True)], True, "listed")


def merge_certificates(tour, client, create):
    """create starts an operation that waits for somebody's signature."""
    create("merged")
    operation = client.get_certificate_operation("merged")
    same((operation.status, operation.issuer_name), ("inProgress", "Unknown"), "operation")
    request = x509.load_der_x509_csr(bytes(operation.csr))
    same(request.is_signature_valid, True, "request's signature")
    now, key = datetime.datetime.now(datetime.timezone.utc), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tour CA")])
    build = lambda subject, public: x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public).serial_number(
        x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    leaf = build(request.subject, request.public_key()).sign(key, hashes.SHA256())
    root = build(name, key.public_key()).add_extension(x509.BasicConstraints(True, 0), True).sign(key, hashes.SHA256())
    der = lambda c: c.public_bytes(serialization.Encoding.DER)
    same(bytes(client.merge_certificate("merged", [der(leaf), der(root)]).cer), der(leaf), "merged")
    create("stopped")
    same(client.cancel_certificate_operation("stopped").cancellation_requested, True, "cancelled")
    same(client.delete_certificate_operation("stopped").name, "stopped", "operation deleted")


def import_certificates(tour, client):
    key = rsa.generate_private_key(65537, 2048)
    now, name = datetime.datetime.now(datetime.timezone.utc), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imported")])
    cert = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7).not_valid_before(
        now).not_valid_after(now + datetime.timedelta(days=30)).sign(key, hashes.SHA256())
    pfx = pkcs12.serialize_key_and_certificates(b"x", key, cert, None, serialization.BestAvailableEncryption(b"pass"))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + cert.public_bytes(serialization.Encoding.PEM)
    der = cert.public_bytes(serialization.Encoding.DER)
    same(bytes(client.import_certificate("pfx", pfx, password="pass").cer), der, "PFX imported")
    same(bytes(client.import_certificate("pem", pem, policy=certificates.CertificatePolicy(content_type="application/x-pem-file")).cer), der, "PEM imported")


def delete_certificates(tour, client):
    made = client.begin_create_certificate("gone-cert", policy_for()).result()
    same(client.begin_delete_certificate("gone-cert").result().recovery_id.endswith("/deletedcertificates/gone-cert"), True, "recovery id")
    same(client.get_deleted_certificate("gone-cert").name, "gone-cert", "deleted certificate")
    same("gone-cert" in [c.name for c in client.list_deleted_certificates()], True, "listed as deleted")
    same(client.begin_recover_deleted_certificate("gone-cert").result().cer, made.cer, "recovered")
    blob = client.backup_certificate("gone-cert")
    client.begin_delete_certificate("gone-cert").wait()
    client.purge_deleted_certificate("gone-cert")
    same(client.restore_certificate_backup(blob).cer, made.cer, "restored")


def contacts_and_issuers(tour, client):
    people = [certificates.CertificateContact(email="a@example.org", name="A", phone="1")]
    same([c.email for c in client.set_contacts(people)], ["a@example.org"], "contacts set")
    same([c.name for c in client.get_contacts()], ["A"], "contacts read")
    same([c.phone for c in client.delete_contacts()], ["1"], "contacts deleted")
    admin = [certificates.AdministratorContact(first_name="A", last_name="B", email="a@example.org", phone="1")]
    made = client.create_issuer("authority", "Test", account_id="me", password="secret", organization_id="org", admin_contacts=admin)
    same((made.provider, made.account_id, made.admin_contacts[0].last_name), ("Test", "me", "B"), "issuer made")
    same(client.update_issuer("authority", enabled=False).enabled, False, "issuer updated")
    same(client.get_issuer("authority").organization_id, "org", "issuer read")
    same([i.name for i in client.list_properties_of_issuers()], ["authority"], "issuers listed")
    same(client.delete_issuer("authority").name, "authority", "issuer deleted")


def tour_certificates(host, url, cls, credential, create):
    tour = Tour(host)
    client = tour.guide(cls(url, credential))
    for leg in (make_certificates, import_certificates, delete_certificates, contacts_and_issuers):
        tour.leg(leg, client)
    tour.leg(merge_certificates, client, lambda name: create(client, name))
    tour.leg(ends, client, "/certificates")
    tour.report(cls)


def start(client, name):
    """A blocking client's poller waits in a thread of its own."""
    client.begin_create_certificate(name, policy_for("Unknown"))


def start_aio(client, name):
    """An asyncio client would wait for the end: the operation is started below it."""
    client.send_request(HttpRequest("POST", f"{client.vault_url}/certificates/{name}/create?api-version=7.5", json={
        "policy": {"issuer": {"name": "Unknown"}, "x509_props": {"subject": "CN=tour.example"}}}))


def tour_credentials():
    tour = Tour("credential")
    off = {"disable_instance_discovery": True}
    tenant, client_id, secret = (os.environ["AZURE_" + n] for n in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"))
    made = {"DefaultAzureCredential": lambda: DefaultAzureCredential(**off), "EnvironmentCredential": lambda: EnvironmentCredential(**off),
            "ClientSecretCredential": lambda: ClientSecretCredential(tenant, client_id, secret, **off),
            "CertificateCredential": lambda: CertificateCredential(tenant, client_id, os.environ["TOUR_CERTIFICATE"], **off),
            "ManagedIdentityCredential": lambda: ManagedIdentityCredential(client_id=os.environ["TOUR_IDENTITY"])}
    for name, make in made.items():
        def use(tour):
            tour.last = name
            same(secrets.SecretClient(VAULTS[0], make()).set_secret("by-" + name, "x").value, "x", "secret set")
            keys.KeyClient(HSMS[0], make()).create_ec_key("by-" + name, hardware_protected=True)
            tour.note(name, "ok")
        tour.leg(use)
    tour.report()


def main():
    for package in ("azure-identity", "azure-keyvault-certificates", "azure-keyvault-keys", "azure-keyvault-secrets"):
        print(f"# {package} {version(package)}")
    tour_credentials()
    # DefaultAzureCredential by its service principal for the blocking clients, a managed identity for the others.
    credential = DefaultAzureCredential(disable_instance_discovery=True)
    tour_secrets("vault", VAULTS[0], secrets.SecretClient, credential)
    tour_certificates("vault", VAULTS[0], certificates.CertificateClient, credential, start)
    for host, url in (("vault", VAULTS[0]), ("managed HSM", HSMS[0])):
        tour_keys(host, url, keys.KeyClient, crypto.CryptographyClient, credential)
    credential = aio_identity.ManagedIdentityCredential(client_id=os.environ["TOUR_IDENTITY"])
    tour_secrets("vault aio", VAULTS[1], aio_secrets.SecretClient, credential)
    tour_certificates("vault aio", VAULTS[1], aio_certificates.CertificateClient, credential, start_aio)
    for host, url in (("vault aio", VAULTS[1]), ("managed HSM aio", HSMS[1])):
        tour_keys(host, url, aio_keys.KeyClient, aio_crypto.CryptographyClient, credential)
    LOOP.run_until_complete(credential.close())


main()
