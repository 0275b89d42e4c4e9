"""A tour of every public method of Microsoft's administration clients of a
managed HSM for Python, and of the Azure CLI's security domain commands.

It prints one line a method: its name, a tab, and ok, "refused as expected
(why)" or "FAILED (why)". A public method that was not called has failed. The
clients and the CLI's code are as they come from PyPI.
"""

import asyncio
import datetime
import inspect
import os
import traceback
import uuid
from importlib.metadata import version

from azure.cli.command_modules.keyvault import custom as cli
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest
from azure.identity import DefaultAzureCredential
from azure.identity import aio as aio_identity
from azure.keyvault import administration as admin
from azure.keyvault.administration import aio as aio_admin
from azure.keyvault.keys import KeyClient
from azure.keyvault.securitydomain import SecurityDomainClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

HSMS, NEW, CONTAINER, SAS = os.environ["TOUR_HSMS"].split(), os.environ["TOUR_NEW_HSM"], os.environ["TOUR_CONTAINER"], os.environ["TOUR_SAS"]
LOOP = asyncio.new_event_loop()
VERDICTS = {}


def same(got, want, what):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


class Guide:
    """Wraps a client and notes what is called."""

    def __init__(self, name, client):
        self._name, self._client = name, client

    def __getattr__(self, method):
        label = f"{self._name} {type(self._client).__name__}.{method}"
        member = getattr(self._client, method)
        if not callable(member):
            VERDICTS.setdefault(label, "ok")
            return member

        def call(*args, **kwargs):
            try:
                out = member(*args, **kwargs)
                if inspect.isawaitable(out):
                    out = LOOP.run_until_complete(out)
                if hasattr(out, "__aiter__"):
                    out = LOOP.run_until_complete(collect(out))
                elif hasattr(out, "by_page"):
                    out = list(out)
                elif hasattr(out, "polling_method"):
                    out = out.result()
                    if inspect.isawaitable(out):
                        out = LOOP.run_until_complete(out)
            except Exception as e:
                VERDICTS[label] = "FAILED (%s: %s)" % (type(e).__name__, " ".join(str(e).split())[:300])
                raise
            VERDICTS.setdefault(label, "ok")
            return out

        return call


async def collect(pages):
    return [item async for item in pages]


def leg(walk, *args):
    try:
        walk(*args)
    except Exception as e:  # the tour goes on
        if os.environ.get("TOUR_TRACE"):
            traceback.print_exc()
        VERDICTS[walk.__name__.replace("_", " ") + " " + args[0]._name] = "FAILED (%s: %s)" % (type(e).__name__, " ".join(str(e).split())[:300])


def access(client):
    everywhere, keys = admin.KeyVaultRoleScope.GLOBAL, admin.KeyVaultRoleScope.KEYS
    built_in = client.list_role_definitions(everywhere)
    same(sum(d.role_type == "AKVBuiltInRole" for d in built_in), 9, "built-in roles")
    name, action = uuid.uuid4(), admin.KeyVaultDataAction.READ_HSM_KEY
    made = client.set_role_definition(everywhere, name=name, role_name="tour", description="d", permissions=[admin.KeyVaultPermission(data_actions=[action])])
    same((made.name, made.role_name, made.permissions[0].data_actions), (str(name), "tour", [action]), "role made")
    changed = client.set_role_definition(everywhere, name=name, role_name="tour two", permissions=[admin.KeyVaultPermission(data_actions=[], not_data_actions=[action])])
    same((changed.role_name, changed.permissions[0].not_data_actions), ("tour two", [action]), "role changed")
    same(client.get_role_definition(everywhere, name).role_name, "tour two", "role read")
    who, assignment = str(uuid.uuid4()), uuid.uuid4()
    given = client.create_role_assignment(keys, made.id, who, name=assignment)
    same((given.name, given.properties.principal_id, given.properties.role_definition_id, given.properties.scope), (str(assignment), who, made.id, keys), "assignment made")
    same(client.get_role_assignment(keys, assignment).role_assignment_id, given.role_assignment_id, "assignment read")
    same(str(assignment) in [a.name for a in client.list_role_assignments(keys)], True, "assignment listed")
    client.delete_role_assignment(keys, assignment)
    client.delete_role_assignment(keys, assignment)  # as if it had been there
    client.delete_role_definition(everywhere, name)
    same(str(name) in [d.name for d in client.list_role_definitions(everywhere)], False, "role listed")
    ends(client)


def settings(client):
    name = "AllowKeyManagementOperationsThroughARM"
    same([s.name for s in client.list_settings()], [name], "settings")
    client.update_setting(admin.KeyVaultSetting(name=name, value=True))
    same(client.get_setting(name).getboolean(), True, "setting")
    ends(client)


def ends(client):
    same(client.vault_url.startswith("https://"), True, "address")
    same(client.send_request(HttpRequest("GET", "/settings")).status_code, 200, "a request of one's own")
    client.close()


def backups(client, key, means):
    client.begin_pre_backup(CONTAINER, _polling_interval=1, **means)
    made = client.begin_backup(CONTAINER, _polling_interval=1, **means)
    folder = made.folder_url
    same(folder.startswith(CONTAINER + "/mhsm-hsm"), True, "folder")
    client.begin_pre_restore(folder, _polling_interval=1, **means)
    client.begin_restore(folder, _polling_interval=1, key_name=key, **means)
    client.begin_restore(folder, _polling_interval=1, **means)
    same(client.vault_url.startswith("https://"), True, "address")
    same(client.send_request(HttpRequest("GET", "/settings")).status_code, 200, "a request of one's own")
    client.close()
    return folder


def holders():
    """Three wrapping keys with their certificates, in files as the CLI takes them."""
    for i in range(3):
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"holder {i}")])
        now = datetime.datetime.now(datetime.timezone.utc)
        cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(i + 1)
                .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
        with open(f"sd{i}.key", "wb") as f:
            f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        with open(f"sd{i}.cer", "wb") as f:
            f.write(cert.public_bytes(serialization.Encoding.PEM))


def command(name, function, *args, **kwargs):
    label = "az keyvault security-domain " + name
    try:
        out = function(*args, **kwargs)
    except Exception as e:
        if os.environ.get("TOUR_TRACE"):
            traceback.print_exc()
        VERDICTS[label] = "FAILED (%s: %s)" % (type(e).__name__, " ".join(str(e).split())[:300])
        raise
    VERDICTS[label] = "ok"
    return out


def recovery(client, credential, folder, key):
    """A new HSM takes the old one's security domain, and then its backup."""
    holders()
    old, new = SecurityDomainClient(HSMS[0], credential), SecurityDomainClient(NEW, credential)
    try:
        KeyClient(NEW, credential).get_key(key)
        raise AssertionError("an HSM without a security domain answered")
    except HttpResponseError as e:
        same(e.status_code, 403, "before the security domain")
    same(command("download", cli.security_domain_download, old, ["sd0.cer", "sd1.cer", "sd2.cer"], "sd.json", 2).status, "Success", "download")
    command("init-recovery", cli.security_domain_init_recovery, new, "exchange.cer")
    command("restore-blob", cli.security_domain_restore_blob, "sd.json", "exchange.cer", ["sd0.key", "sd2.key"], "blob.json")
    same(command("upload", cli.security_domain_upload, new, "sd.json", sd_exchange_key="exchange.cer", sd_wrapping_keys=["sd2.key", "sd1.key"]).status, "Success", "upload")
    command("wait", cli._wait_security_domain_operation, new)
    client.begin_restore(folder, sas_token=SAS, _polling_interval=1)
    same(KeyClient(NEW, credential).get_key(key).key.n, KeyClient(HSMS[0], credential).get_key(key).key.n, "the key in the new HSM")


def main():
    for package in ("azure-keyvault-administration", "azure-keyvault-securitydomain", "azure-cli"):
        print(f"# {package} {version(package)}")
    credential = DefaultAzureCredential(disable_instance_discovery=True)
    KeyClient(HSMS[0], credential).create_rsa_key("tour", hardware_protected=True)
    leg(access, Guide("hsm", admin.KeyVaultAccessControlClient(HSMS[0], credential)))
    leg(settings, Guide("hsm", admin.KeyVaultSettingsClient(HSMS[0], credential)))

    def with_signature(client):
        folder = backups(client, "tour", {"sas_token": SAS})
        recovery(Guide("new hsm", admin.KeyVaultBackupClient(NEW, credential)), credential, folder, "tour")

    leg(with_signature, Guide("hsm", admin.KeyVaultBackupClient(HSMS[0], credential)))
    KeyClient(HSMS[1], credential).create_rsa_key("tour", hardware_protected=True)
    other = aio_identity.ManagedIdentityCredential(client_id=os.environ["TOUR_IDENTITY"])
    leg(access, Guide("hsm aio", aio_admin.KeyVaultAccessControlClient(HSMS[1], other)))
    leg(settings, Guide("hsm aio", aio_admin.KeyVaultSettingsClient(HSMS[1], other)))
    leg(lambda c: backups(c, "tour", {"use_managed_identity": True}), Guide("hsm aio", aio_admin.KeyVaultBackupClient(HSMS[1], other)))
    LOOP.run_until_complete(other.close())
    for name, module in (("hsm", admin), ("hsm aio", aio_admin)):
        for cls in (module.KeyVaultAccessControlClient, module.KeyVaultSettingsClient, module.KeyVaultBackupClient):
            for method in dir(cls):
                if not method.startswith("_"):
                    VERDICTS.setdefault(f"{name} {cls.__name__}.{method}", "FAILED (not called)")
    for label in sorted(VERDICTS):
        print(f"{label}\t{VERDICTS[label]}", flush=True)


main()
