import com.azure.core.credential.TokenCredential;
import com.azure.core.exception.HttpResponseException;
import com.azure.core.http.rest.PagedFlux;
import com.azure.core.http.rest.PagedIterable;
import com.azure.core.http.rest.Response;
import com.azure.core.util.BinaryData;
import com.azure.core.util.Context;
import com.azure.core.util.polling.PollerFlux;
import com.azure.core.util.polling.SyncPoller;
import com.azure.identity.ClientCertificateCredentialBuilder;
import com.azure.identity.ClientSecretCredentialBuilder;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.identity.ManagedIdentityCredentialBuilder;
import com.azure.security.keyvault.certificates.CertificateAsyncClient;
import com.azure.security.keyvault.certificates.CertificateClient;
import com.azure.security.keyvault.certificates.CertificateClientBuilder;
import com.azure.security.keyvault.certificates.models.*;
import com.azure.security.keyvault.keys.KeyAsyncClient;
import com.azure.security.keyvault.keys.KeyClient;
import com.azure.security.keyvault.keys.KeyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.CryptographyAsyncClient;
import com.azure.security.keyvault.keys.cryptography.CryptographyClient;
import com.azure.security.keyvault.keys.cryptography.CryptographyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.models.*;
import com.azure.security.keyvault.keys.models.*;
import com.azure.security.keyvault.secrets.SecretAsyncClient;
import com.azure.security.keyvault.secrets.SecretClient;
import com.azure.security.keyvault.secrets.SecretClientBuilder;
import com.azure.security.keyvault.secrets.models.*;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.*;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import reactor.core.publisher.Mono;

/**
 * A tour of every public method of Microsoft's Key Vault clients for Java, in
 * the form of tour.py. Methods are called by reflection, so that each overload
 * has a verdict of its own; the same walk is taken with the blocking and with
 * the asynchronous clients, whose methods have no Context.
 */
class Tour {
    static final String[] VAULTS = System.getenv("TOUR_VAULTS").split(" "), HSMS = System.getenv("TOUR_HSMS").split(" ");
    static final byte[] PLAIN = "plain".getBytes(StandardCharsets.UTF_8), TEXT = "text".getBytes(StandardCharsets.UTF_8);

    final String name;
    final Map<String, String> verdicts = new TreeMap<>();
    String last;

    Tour(String name) { this.name = this.last = name; }

    interface Walk { void go() throws Exception; }

    void note(String label, String verdict) {
        if (!verdicts.getOrDefault(label, "ok").startsWith("FAILED")) verdicts.put(label, verdict);
    }

    /** Walks one part; what breaks it is the last called method's failure. */
    void leg(Walk walk) {
        try {
            walk.go();
        } catch (Throwable e) {
            if (System.getenv("TOUR_TRACE") != null) e.printStackTrace();
            String text = String.valueOf(e.getMessage()).replaceAll("\\s+", " ");
            note(last, "FAILED (" + e.getClass().getSimpleName() + ": " + text.substring(0, Math.min(300, text.length())) + ")");
        }
    }

    /** Says that a call is refused with that status. */
    void refused(String why, int status, Walk call) throws Exception {
        try {
            call.go();
        } catch (HttpResponseException e) {
            if (e.getResponse().getStatusCode() != status) throw e;
            note(last, "refused as expected (" + why + ")");
            return;
        }
        throw new AssertionError("was not refused: " + why);
    }

    static String label(Method m) {
        return m.getDeclaringClass().getSimpleName() + "." + m.getName()
            + Arrays.stream(m.getParameterTypes()).map(Class::getSimpleName).collect(Collectors.joining(", ", "(", ")"));
    }

    static boolean fits(Class<?> type, Object arg) {
        if (arg == null) return !type.isPrimitive();
        return type.isInstance(arg) || type == int.class && arg instanceof Integer || type == boolean.class && arg instanceof Boolean;
    }

    static Method find(Object client, String method, Object[] args) {
        for (Method m : client.getClass().getMethods()) {
            Class<?>[] types = m.getParameterTypes();
            if (!m.getName().equals(method) || types.length != args.length) continue;
            boolean all = true;
            for (int i = 0; i < types.length; i++) all &= fits(types[i], args[i]);
            if (all) return m;
        }
        return null;
    }

    /** Calls the method that fits the arguments and returns what it gives in the end. */
    @SuppressWarnings("unchecked")
    <T> T call(Object client, String method, Object... args) throws Exception {
        Method m = find(client, method, args);
        if (m == null) m = find(client, method, args = Arrays.stream(args).filter(a -> !(a instanceof Context)).toArray());
        if (m == null) throw new NoSuchMethodException(client.getClass().getSimpleName() + "." + method + Arrays.toString(args));
        last = label(m);
        String label = last;
        Object out;
        try {
            out = m.invoke(client, args);
        } catch (InvocationTargetException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
        if (out instanceof PollerFlux<?, ?> flux) out = flux.setPollInterval(Duration.ofMillis(10)).getSyncPoller();
        else if (out instanceof SyncPoller<?, ?> poller) poller.setPollInterval(Duration.ofMillis(10));
        else if (out instanceof PagedFlux<?> flux) out = flux.collectList().block(Duration.ofSeconds(60));
        else if (out instanceof PagedIterable<?> pages) out = pages.stream().toList();
        else if (out instanceof Mono<?> mono) out = mono.block(Duration.ofSeconds(60));
        if (out instanceof Response<?> response) out = response.getValue();
        note(label, "ok");
        return (T) out;
    }

    void report(Class<?>... classes) {
        for (Class<?> c : classes) {
            for (Method m : c.getDeclaredMethods()) {
                if (Modifier.isPublic(m.getModifiers()) && !m.isSynthetic()) verdicts.putIfAbsent(label(m), "FAILED (not called)");
            }
        }
        verdicts.forEach((label, verdict) -> System.out.println(name + " " + label.replace(", ", ",") + "\t" + verdict));
    }

    static void same(Object got, Object want, String what) {
        boolean equal = got instanceof byte[] a && want instanceof byte[] b ? Arrays.equals(a, b) : Objects.equals(got, want);
        if (!equal) throw new AssertionError(what + ": got " + got + ", want " + want);
    }

    static byte[] digest(String algorithm) throws Exception { return MessageDigest.getInstance(algorithm).digest(TEXT); }

    static byte[] result(Object value, String getter) throws Exception { return (byte[]) value.getClass().getMethod(getter).invoke(value); }

    // Keys.

    void keys(Object client, boolean hw, Supplier<CryptographyClientBuilder> crypto) {
        Context none = Context.NONE;
        KeyType rsa = hw ? KeyType.RSA_HSM : KeyType.RSA, ec = hw ? KeyType.EC_HSM : KeyType.EC;
        leg(() -> {
            OffsetDateTime expires = OffsetDateTime.now(java.time.ZoneOffset.UTC).withNano(0).plusDays(90);
            CreateRsaKeyOptions three = new CreateRsaKeyOptions("rsa").setKeySize(3072).setHardwareProtected(hw).setExpiresOn(expires).setTags(Map.of("a", "b"));
            KeyVaultKey k = call(client, "createRsaKey", three);
            same(List.of(k.getKeyType(), k.getKey().getN().length, k.getProperties().getExpiresOn(), k.getProperties().getTags()), List.of(rsa, 384, expires, Map.of("a", "b")), "key made");
            call(client, "createRsaKeyWithResponse", new CreateRsaKeyOptions("rsa").setHardwareProtected(hw), none);
            CreateEcKeyOptions curve = new CreateEcKeyOptions("ec").setCurveName(KeyCurveName.P_384).setHardwareProtected(hw).setKeyOperations(KeyOperation.SIGN);
            k = call(client, "createEcKey", curve);
            same(List.of(k.getKeyType(), k.getKey().getCurveName(), k.getKeyOperations()), List.of(ec, KeyCurveName.P_384, List.of(KeyOperation.SIGN)), "key made");
            call(client, "createEcKeyWithResponse", curve, none);
            same(this.<KeyVaultKey>call(client, "createKey", "plain", ec).getKeyType(), ec, "key made");
            call(client, "createKey", new CreateKeyOptions("plain", ec));
            call(client, "createKeyWithResponse", new CreateKeyOptions("plain", ec), none);
            same(this.<List<KeyProperties>>call(client, "listPropertiesOfKeyVersions", "plain").size(), 3, "versions of plain");
            call(client, "listPropertiesOfKeyVersions", "plain", none);
            KeyProperties properties = this.<KeyVaultKey>call(client, "getKey", "ec").getProperties();
            k = call(client, "updateKeyProperties", properties.setEnabled(false).setTags(Map.of("c", "d")), new KeyOperation[] {KeyOperation.SIGN, KeyOperation.VERIFY});
            same(List.of(k.getProperties().isEnabled(), k.getProperties().getTags(), k.getKeyOperations()), List.of(false, Map.of("c", "d"), List.of(KeyOperation.SIGN, KeyOperation.VERIFY)), "key updated");
            call(client, "updateKeyPropertiesWithResponse", k.getProperties().setEnabled(true), none, new KeyOperation[] {KeyOperation.SIGN});
            same(this.<KeyVaultKey>call(client, "getKey", "ec", properties.getVersion()).getId(), k.getId(), "key read");
            same(this.<KeyVaultKey>call(client, "getKeyWithResponse", "ec", properties.getVersion(), none).getId(), k.getId(), "key read");
            same(this.<String>call(client, "getVaultUrl").startsWith("https://"), true, "address");
        });
        leg(() -> {
            for (int i = 0; i < 26; i++) call(client, "createKey", "list" + i, ec);
            for (Object[] args : new Object[][] {{}, {none}}) {
                same(this.<List<KeyProperties>>call(client, "listPropertiesOfKeys", args).stream().filter(k -> k.getName().startsWith("list")).count(), 26L, "keys listed over pages");
            }
        });
        leg(() -> {
            CreateOctKeyOptions options = new CreateOctKeyOptions("oct").setKeySize(256).setHardwareProtected(hw);
            if (!hw) {
                refused("symmetric keys are for managed HSMs", 400, () -> call(client, "createOctKey", options));
                refused("symmetric keys are for managed HSMs", 400, () -> call(client, "createOctKeyWithResponse", options, none));
                return;
            }
            KeyVaultKey k = call(client, "createOctKey", options);
            same(k.getKeyType(), KeyType.OCT_HSM, "key made");
            call(client, "createOctKeyWithResponse", options, none);
            Object c = cryptoOf(client, "oct");
            EncryptResult e = call(c, "encrypt", EncryptParameters.createA256GcmParameters(PLAIN, TEXT), none);
            DecryptResult d = call(c, "decrypt", DecryptParameters.createA256GcmParameters(e.getCipherText(), e.getIv(), e.getAuthenticationTag(), TEXT), none);
            same(d.getPlainText(), PLAIN, "A256GCM");
            byte[] block = new byte[32];
            same(this.<UnwrapResult>call(c, "unwrapKey", KeyWrapAlgorithm.A256KW, this.<WrapResult>call(c, "wrapKey", KeyWrapAlgorithm.A256KW, block).getEncryptedKey()).getKey(), block, "A256KW");
        });
        leg(() -> {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            KeyPair pair = generator.generateKeyPair();
            JsonWebKey jwk = JsonWebKey.fromRsa(pair, List.of(KeyOperation.SIGN, KeyOperation.VERIFY)).setKeyType(rsa);
            same(this.<KeyVaultKey>call(client, "importKey", new ImportKeyOptions("imported", jwk).setHardwareProtected(hw)).getKey().getN(), jwk.getN(), "key imported");
            call(client, "importKeyWithResponse", new ImportKeyOptions("imported", jwk).setHardwareProtected(hw), none);
            call(client, "importKey", "imported", jwk);
            Signature check = Signature.getInstance("SHA256withRSA");
            check.initVerify(pair.getPublic());
            check.update(TEXT);
            same(check.verify(this.<SignResult>call(cryptoOf(client, "imported"), "sign", SignatureAlgorithm.RS256, digest("SHA-256")).getSignature()), true, "its signature");
        });
        leg(() -> {
            KeyVaultKey made = call(client, "createKey", "gone", ec);
            SyncPoller<DeletedKey, Void> poller = call(client, "beginDeleteKey", "gone");
            same(poller.waitForCompletion().getValue().getRecoveryId().endsWith("/deletedkeys/gone"), true, "recovery id");
            same(this.<DeletedKey>call(client, "getDeletedKey", "gone").getName(), "gone", "deleted key");
            same(this.<DeletedKey>call(client, "getDeletedKeyWithResponse", "gone", none).getName(), "gone", "deleted key");
            for (Object[] args : new Object[][] {{}, {none}}) {
                same(this.<List<DeletedKey>>call(client, "listDeletedKeys", args).stream().anyMatch(k -> k.getName().equals("gone")), true, "listed as deleted");
            }
            SyncPoller<KeyVaultKey, Void> recovery = call(client, "beginRecoverDeletedKey", "gone");
            same(recovery.waitForCompletion().getValue().getId(), made.getId(), "recovered");
            byte[] blob = call(client, "backupKey", "gone");
            this.<SyncPoller<DeletedKey, Void>>call(client, "beginDeleteKey", "gone").waitForCompletion();
            call(client, "purgeDeletedKey", "gone");
            same(this.<KeyVaultKey>call(client, "restoreKeyBackup", blob).getId(), made.getId(), "restored");
            blob = call(client, "backupKeyWithResponse", "gone", none);
            this.<SyncPoller<DeletedKey, Void>>call(client, "beginDeleteKey", "gone").waitForCompletion();
            call(client, "purgeDeletedKeyWithResponse", "gone", none);
            same(this.<KeyVaultKey>call(client, "restoreKeyBackupWithResponse", blob, none).getId(), made.getId(), "restored");
        });
        leg(() -> {
            KeyVaultKey first = call(client, "createKey", "turning", rsa);
            KeyRotationPolicy policy = new KeyRotationPolicy().setExpiresIn("P90D").setLifetimeActions(List.of(new KeyRotationLifetimeAction(KeyRotationPolicyAction.ROTATE).setTimeAfterCreate("P60D")));
            same(this.<KeyRotationPolicy>call(client, "updateKeyRotationPolicy", "turning", policy).getLifetimeActions().size(), 2, "actions of the policy");
            call(client, "updateKeyRotationPolicyWithResponse", "turning", policy, none);
            same(this.<KeyRotationPolicy>call(client, "getKeyRotationPolicy", "turning").getExpiresIn(), "P90D", "policy read");
            call(client, "getKeyRotationPolicyWithResponse", "turning", none);
            KeyVaultKey second = call(client, "rotateKey", "turning");
            same(second.getProperties().getExpiresOn() == null || second.getId().equals(first.getId()), false, "rotated into the same");
            call(client, "rotateKeyWithResponse", "turning", none);
        });
        leg(() -> {
            if (hw) {
                same(this.<byte[]>call(client, "getRandomBytes", 32).length, 32, "random bytes");
                same(this.<byte[]>call(client, "getRandomBytesWithResponse", 32, none).length, 32, "random bytes");
                return;
            }
            refused("random bytes come from a managed HSM", 400, () -> call(client, "getRandomBytes", 32));
            refused("random bytes come from a managed HSM", 400, () -> call(client, "getRandomBytesWithResponse", 32, none));
        });
        leg(() -> {
            String authority = System.getenv("TOUR_ATTESTATION");
            String policy = "{\"version\":\"1.0.0\",\"anyOf\":[{\"authority\":\"" + authority + "\",\"allOf\":[{\"claim\":\"sdk-test\",\"equals\":\"true\"}]}]}";
            KeyVaultKey k = call(client, "createRsaKey", new CreateRsaKeyOptions("released").setHardwareProtected(true).setExportable(true)
                .setReleasePolicy(new KeyReleasePolicy(BinaryData.fromString(policy))).setKeyOperations(KeyOperation.ENCRYPT, KeyOperation.DECRYPT));
            String body = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(authority + "/generate-test-token")).build(), BodyHandlers.ofString()).body();
            String token = body.split("\"")[3];
            String version = k.getProperties().getVersion();
            same(this.<ReleaseKeyResult>call(client, "releaseKey", "released", token).getValue().split("\\.").length, 3, "parts of the JWS");
            call(client, "releaseKey", "released", version, token);
            call(client, "releaseKeyWithResponse", "released", version, token, new ReleaseKeyOptions().setAlgorithm(KeyExportEncryptionAlgorithm.RSA_AES_KEY_WRAP_256), none);
        });
        leg(() -> {
            KeyVaultKey k = call(client, "createEcKey", new CreateEcKeyOptions("attested").setHardwareProtected(true));
            KeyAttestation proof = this.<KeyVaultKey>call(client, "getKeyAttestation", "attested").getProperties().getKeyAttestation();
            same(new String(proof.getPublicKeyAttestation(), StandardCharsets.UTF_8).split("\\.").length, 3, "parts of the attestation");
            call(client, "getKeyAttestationWithResponse", "attested", k.getProperties().getVersion(), none);
        });
        leg(() -> use(client, hw, crypto));
    }

    Object cryptoOf(Object client, String... nameAndVersion) throws Exception {
        return call(client, client instanceof KeyClient ? "getCryptographyClient" : "getCryptographyAsyncClient", (Object[]) nameAndVersion);
    }

    void use(Object client, boolean hw, Supplier<CryptographyClientBuilder> crypto) throws Exception {
        Context none = Context.NONE;
        KeyVaultKey k = call(client, "createRsaKey", new CreateRsaKeyOptions("used").setKeySize(2048).setHardwareProtected(hw));
        Object c = cryptoOf(client, "used", k.getProperties().getVersion());
        same(this.<KeyVaultKey>call(c, "getKey").getId(), k.getId(), "key of the client");
        same(this.<KeyVaultKey>call(c, "getKeyWithResponse", none).getId(), k.getId(), "key of the client");
        // A client that knows the address alone asks the vault.
        CryptographyClientBuilder byAddress = crypto.get().keyIdentifier(k.getId());
        Object alone = client instanceof KeyClient ? byAddress.buildClient() : byAddress.buildAsyncClient();
        for (Object on : new Object[] {c, alone}) {
            for (SignatureAlgorithm algorithm : List.of(SignatureAlgorithm.RS256, SignatureAlgorithm.PS384, SignatureAlgorithm.RS512)) {
                byte[] digest = digest("SHA-" + algorithm.toString().substring(2));
                byte[] signature = this.<SignResult>call(on, "sign", algorithm, digest).getSignature();
                same(this.<VerifyResult>call(on, "verify", algorithm, digest, signature).isValid(), true, algorithm.toString());
                call(on, "sign", algorithm, digest, none);
                same(this.<VerifyResult>call(on, "verify", algorithm, digest, signature, none).isValid(), true, algorithm.toString());
                signature = this.<SignResult>call(on, "signData", algorithm, TEXT).getSignature();
                same(this.<VerifyResult>call(on, "verifyData", algorithm, TEXT, signature).isValid(), true, algorithm + " of data");
                call(on, "signData", algorithm, TEXT, none);
                same(this.<VerifyResult>call(on, "verifyData", algorithm, TEXT, signature, none).isValid(), true, algorithm + " of data");
            }
            for (EncryptionAlgorithm algorithm : List.of(EncryptionAlgorithm.RSA_OAEP, EncryptionAlgorithm.RSA_OAEP_256, EncryptionAlgorithm.RSA1_5)) {
                byte[] cipher = this.<EncryptResult>call(on, "encrypt", algorithm, PLAIN).getCipherText();
                same(this.<DecryptResult>call(on, "decrypt", algorithm, cipher).getPlainText(), PLAIN, algorithm.toString());
                cipher = this.<EncryptResult>call(on, "encrypt", algorithm, PLAIN, none).getCipherText();
                same(this.<DecryptResult>call(on, "decrypt", algorithm, cipher, none).getPlainText(), PLAIN, algorithm.toString());
                KeyWrapAlgorithm wrap = KeyWrapAlgorithm.fromString(algorithm.toString());
                byte[] wrapped = this.<WrapResult>call(on, "wrapKey", wrap, PLAIN).getEncryptedKey();
                same(this.<UnwrapResult>call(on, "unwrapKey", wrap, wrapped).getKey(), PLAIN, algorithm + " wrap");
                wrapped = this.<WrapResult>call(on, "wrapKey", wrap, PLAIN, none).getEncryptedKey();
                same(this.<UnwrapResult>call(on, "unwrapKey", wrap, wrapped, none).getKey(), PLAIN, algorithm + " wrap");
            }
            byte[] cipher = this.<EncryptResult>call(on, "encrypt", EncryptParameters.createRsaOaepParameters(PLAIN), none).getCipherText();
            same(this.<DecryptResult>call(on, "decrypt", DecryptParameters.createRsaOaepParameters(cipher), none).getPlainText(), PLAIN, "by parameters");
        }
        // And one that has the key alone asks nobody.
        CryptographyClient local = new CryptographyClientBuilder().jsonWebKey(k.getKey()).buildClient();
        byte[] sealed = local.encrypt(EncryptionAlgorithm.RSA_OAEP, PLAIN).getCipherText();
        same(this.<DecryptResult>call(c, "decrypt", EncryptionAlgorithm.RSA_OAEP, sealed).getPlainText(), PLAIN, "encrypted without the vault");
        Map<KeyCurveName, SignatureAlgorithm> curves = Map.of(KeyCurveName.P_256, SignatureAlgorithm.ES256, KeyCurveName.P_384, SignatureAlgorithm.ES384, KeyCurveName.P_521, SignatureAlgorithm.ES512);
        for (Map.Entry<KeyCurveName, SignatureAlgorithm> e : curves.entrySet()) {
            KeyVaultKey made = call(client, "createEcKey", new CreateEcKeyOptions("used-" + e.getKey()).setCurveName(e.getKey()).setHardwareProtected(hw));
            Object on = cryptoOf(client, made.getName());
            byte[] digest = digest("SHA-" + e.getValue().toString().substring(2));
            byte[] signed = this.<SignResult>call(on, "sign", e.getValue(), digest).getSignature();
            same(this.<VerifyResult>call(on, "verify", e.getValue(), digest, signed).isValid(), true, e.getValue().toString());
        }
    }

    // Secrets.

    void secrets(Object client, CertificateClient certificates) {
        Context none = Context.NONE;
        leg(() -> {
            KeyVaultSecret first = call(client, "setSecret", new KeyVaultSecret("one", "first").setProperties(new SecretProperties().setContentType("text/plain").setTags(Map.of("a", "b"))));
            same(List.of(first.getValue(), first.getProperties().getContentType(), first.getProperties().getTags()), List.of("first", "text/plain", Map.of("a", "b")), "secret set");
            KeyVaultSecret second = call(client, "setSecret", "one", "second ü 日本");
            String old = first.getProperties().getVersion();
            same(this.<KeyVaultSecret>call(client, "getSecret", "one").getValue(), "second ü 日本", "secret read");
            same(this.<KeyVaultSecret>call(client, "getSecret", "one", old).getValue(), "first", "version read");
            same(this.<KeyVaultSecret>call(client, "getSecretWithResponse", "one", old, none).getValue(), "first", "version read");
            SecretProperties u = call(client, "updateSecretProperties", second.getProperties().setEnabled(false).setTags(Map.of("c", "d")));
            same(List.of(u.isEnabled(), u.getTags()), List.of(false, Map.of("c", "d")), "secret updated");
            call(client, "updateSecretPropertiesWithResponse", u.setEnabled(true), none);
            call(client, "setSecretWithResponse", new KeyVaultSecret("one", "third"), none);
            same(this.<List<SecretProperties>>call(client, "listPropertiesOfSecretVersions", "one").size(), 3, "versions of one");
            call(client, "listPropertiesOfSecretVersions", "one", none);
            for (int i = 0; i < 26; i++) call(client, "setSecret", "list" + i, "x");
            for (Object[] args : new Object[][] {{}, {none}}) {
                same(this.<List<SecretProperties>>call(client, "listPropertiesOfSecrets", args).stream().filter(s -> s.getName().startsWith("list")).count(), 26L, "secrets listed over pages");
            }
            same(this.<String>call(client, "getVaultUrl").startsWith("https://"), true, "address");
        });
        leg(() -> {
            String type = "application/x-pem-file";
            certificates.beginCreateCertificate("as-pem", policy("Self").setKeyType(CertificateKeyType.RSA).setExportable(true)).waitForCompletion();
            same(this.<KeyVaultSecret>call(client, "getSecret", "as-pem", null, type).getValue().contains("PRIVATE KEY"), true, "PFX as PEM");
            same(this.<KeyVaultSecret>call(client, "getSecretWithResponse", "as-pem", null, type, none).getProperties().getContentType(), type, "PFX as PEM");
        });
        leg(() -> {
            KeyVaultSecret made = call(client, "setSecret", "gone-secret", "value");
            SyncPoller<DeletedSecret, Void> poller = call(client, "beginDeleteSecret", "gone-secret");
            same(poller.waitForCompletion().getValue().getRecoveryId().endsWith("/deletedsecrets/gone-secret"), true, "recovery id");
            same(this.<DeletedSecret>call(client, "getDeletedSecret", "gone-secret").getName(), "gone-secret", "deleted secret");
            call(client, "getDeletedSecretWithResponse", "gone-secret", none);
            for (Object[] args : new Object[][] {{}, {none}}) {
                same(this.<List<DeletedSecret>>call(client, "listDeletedSecrets", args).stream().anyMatch(s -> s.getName().equals("gone-secret")), true, "listed as deleted");
            }
            same(this.<SyncPoller<KeyVaultSecret, Void>>call(client, "beginRecoverDeletedSecret", "gone-secret").waitForCompletion().getValue().getId(), made.getId(), "recovered");
            byte[] blob = call(client, "backupSecret", "gone-secret");
            this.<SyncPoller<DeletedSecret, Void>>call(client, "beginDeleteSecret", "gone-secret").waitForCompletion();
            call(client, "purgeDeletedSecret", "gone-secret");
            same(this.<KeyVaultSecret>call(client, "restoreSecretBackup", blob).getId(), made.getId(), "restored");
            call(client, "backupSecretWithResponse", "gone-secret", none); // this version returns the answer and not the backup in it
            blob = call(client, "backupSecret", "gone-secret");
            this.<SyncPoller<DeletedSecret, Void>>call(client, "beginDeleteSecret", "gone-secret").waitForCompletion();
            call(client, "purgeDeletedSecretWithResponse", "gone-secret", none);
            call(client, "restoreSecretBackupWithResponse", blob, none);
            same(this.<KeyVaultSecret>call(client, "getSecret", "gone-secret").getValue(), "value", "restored value");
        });
    }

    // Certificates.

    static CertificatePolicy policy(String issuer) {
        return new CertificatePolicy(issuer, "CN=tour.example", new SubjectAlternativeNames().setDnsNames(List.of("tour.example")));
    }

    /** A certificate of key, signed by another. */
    static X509Certificate certify(String issuer, String subject, SubjectPublicKeyInfo key, KeyPair by, String algorithm) throws Exception {
        Date from = new Date(System.currentTimeMillis() - 3_600_000), to = new Date(System.currentTimeMillis() + 86_400_000);
        return new JcaX509CertificateConverter().getCertificate(new X509v3CertificateBuilder(new X500Name(issuer), BigInteger.valueOf(System.nanoTime()), from, to,
            new X500Name(subject), key).build(new JcaContentSignerBuilder(algorithm).build(by.getPrivate())));
    }

    void certificates(Object client) {
        Context none = Context.NONE;
        leg(() -> {
            CertificatePolicy policy = policy("Self").setKeyType(CertificateKeyType.EC).setKeyCurveName(CertificateKeyCurveName.P_256).setContentType(CertificateContentType.PEM)
                .setValidityInMonths(6).setKeyUsage(CertificateKeyUsage.DIGITAL_SIGNATURE).setLifetimeActions(new LifetimeAction(CertificatePolicyAction.AUTO_RENEW).setLifetimePercentage(80));
            SyncPoller<CertificateOperation, KeyVaultCertificateWithPolicy> poller = call(client, "beginCreateCertificate", "self", policy, true, Map.of("a", "b"));
            poller.waitForCompletion();
            KeyVaultCertificateWithPolicy made = poller.getFinalResult();
            same(made.getProperties().getTags(), Map.of("a", "b"), "certificate made");
            same(made.getProperties().getX509Thumbprint(), MessageDigest.getInstance("SHA-1").digest(made.getCer()), "thumbprint");
            String version = made.getProperties().getVersion();
            same(this.<KeyVaultCertificateWithPolicy>call(client, "getCertificate", "self").getPolicy().getKeyCurveName(), CertificateKeyCurveName.P_256, "certificate read");
            call(client, "getCertificateWithResponse", "self", none);
            same(this.<KeyVaultCertificate>call(client, "getCertificateVersion", "self", version).getCer(), made.getCer(), "version read");
            call(client, "getCertificateVersionWithResponse", "self", version, none);
            same(this.<CertificatePolicy>call(client, "getCertificatePolicy", "self").getValidityInMonths(), 6, "policy read");
            call(client, "getCertificatePolicyWithResponse", "self", none);
            CertificatePolicy changed = call(client, "updateCertificatePolicy", "self", policy("Self").setKeyType(CertificateKeyType.RSA).setKeySize(2048).setValidityInMonths(3));
            same(List.of(changed.getValidityInMonths(), changed.getKeyType()), List.of(3, CertificateKeyType.RSA), "policy changed");
            call(client, "updateCertificatePolicyWithResponse", "self", changed, none);
            same(this.<KeyVaultCertificate>call(client, "updateCertificateProperties", made.getProperties().setTags(Map.of("c", "d"))).getProperties().getTags(), Map.of("c", "d"), "properties changed");
            call(client, "updateCertificatePropertiesWithResponse", made.getProperties(), none);
            this.<SyncPoller<?, ?>>call(client, "beginCreateCertificate", "self", changed).waitForCompletion();
            this.<SyncPoller<?, ?>>call(client, "beginCreateCertificate", new CreateCertificateOptions("self", changed)).waitForCompletion();
            same(this.<SyncPoller<CertificateOperation, ?>>call(client, "getCertificateOperation", "self").waitForCompletion().getValue().getStatus(), "completed", "operation");
            same(this.<List<CertificateProperties>>call(client, "listPropertiesOfCertificateVersions", "self").size(), 3, "versions of self");
            call(client, "listPropertiesOfCertificateVersions", "self", none);
            same(this.<List<CertificateProperties>>call(client, "listPropertiesOfCertificates").size(), 2, "certificates");
            same(this.<List<CertificateProperties>>call(client, "listPropertiesOfCertificates", true, none).size(), 2, "certificates");
            same(this.<String>call(client, "getVaultUrl").startsWith("https://"), true, "address");
        });
        leg(() -> {
            KeyPair ca = KeyPairGenerator.getInstance("EC").generateKeyPair();
            X509Certificate root = certify("CN=tour CA", "CN=tour CA", SubjectPublicKeyInfo.getInstance(ca.getPublic().getEncoded()), ca, "SHA256withECDSA");
            for (boolean whole : new boolean[] {false, true}) {
                String name = whole ? "merged2" : "merged";
                SyncPoller<CertificateOperation, KeyVaultCertificateWithPolicy> poller = call(client, "beginCreateCertificate", name, policy("Unknown"));
                CertificateOperation operation = poller.poll().getValue();
                same(List.of(operation.getStatus(), operation.getIssuerName()), List.of("inProgress", "Unknown"), "operation");
                PKCS10CertificationRequest request = new PKCS10CertificationRequest(operation.getCsr());
                X509Certificate leaf = certify("CN=tour CA", request.getSubject().toString(), request.getSubjectPublicKeyInfo(), ca, "SHA256withECDSA");
                MergeCertificateOptions merge = new MergeCertificateOptions(name, List.of(leaf.getEncoded(), root.getEncoded()));
                KeyVaultCertificate merged = whole ? call(client, "mergeCertificateWithResponse", merge, none) : call(client, "mergeCertificate", merge);
                same(merged.getCer(), leaf.getEncoded(), "merged");
            }
            for (boolean whole : new boolean[] {false, true}) {
                String name = whole ? "stopped2" : "stopped";
                this.<SyncPoller<?, ?>>call(client, "beginCreateCertificate", name, policy("Unknown")).poll();
                CertificateOperation stopped = whole ? call(client, "cancelCertificateOperationWithResponse", name, none) : call(client, "cancelCertificateOperation", name);
                same(stopped.getCancellationRequested(), true, "cancelled");
                CertificateOperation gone = whole ? call(client, "deleteCertificateOperationWithResponse", name, none) : call(client, "deleteCertificateOperation", name);
                same(gone.getName(), name, "operation deleted");
            }
        });
        leg(() -> {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            KeyPair pair = generator.generateKeyPair();
            X509Certificate cert = certify("CN=imported", "CN=imported", SubjectPublicKeyInfo.getInstance(pair.getPublic().getEncoded()), pair, "SHA256withRSA");
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            store.setKeyEntry("x", pair.getPrivate(), "pass".toCharArray(), new X509Certificate[] {cert});
            ByteArrayOutputStream pfx = new ByteArrayOutputStream();
            store.store(pfx, "pass".toCharArray());
            same(this.<KeyVaultCertificateWithPolicy>call(client, "importCertificate", new ImportCertificateOptions("pfx", pfx.toByteArray()).setPassword("pass")).getCer(), cert.getEncoded(), "PFX imported");
            Base64.Encoder lines = Base64.getMimeEncoder(64, new byte[] {'\n'});
            String pem = "-----BEGIN PRIVATE KEY-----\n" + lines.encodeToString(pair.getPrivate().getEncoded()) + "\n-----END PRIVATE KEY-----\n"
                + "-----BEGIN CERTIFICATE-----\n" + lines.encodeToString(cert.getEncoded()) + "\n-----END CERTIFICATE-----\n";
            ImportCertificateOptions options = new ImportCertificateOptions("pem", pem.getBytes(StandardCharsets.UTF_8)).setPolicy(policy("Unknown").setContentType(CertificateContentType.PEM));
            same(this.<KeyVaultCertificateWithPolicy>call(client, "importCertificateWithResponse", options, none).getCer(), cert.getEncoded(), "PEM imported");
        });
        leg(() -> {
            SyncPoller<CertificateOperation, KeyVaultCertificateWithPolicy> creation = call(client, "beginCreateCertificate", "gone-cert", policy("Self"));
            creation.waitForCompletion();
            String id = creation.getFinalResult().getId();
            SyncPoller<DeletedCertificate, Void> poller = call(client, "beginDeleteCertificate", "gone-cert");
            same(poller.waitForCompletion().getValue().getRecoveryId().endsWith("/deletedcertificates/gone-cert"), true, "recovery id");
            same(this.<DeletedCertificate>call(client, "getDeletedCertificate", "gone-cert").getName(), "gone-cert", "deleted certificate");
            call(client, "getDeletedCertificateWithResponse", "gone-cert", none);
            for (Object[] args : new Object[][] {{}, {true, none}}) {
                same(this.<List<DeletedCertificate>>call(client, "listDeletedCertificates", args).stream().anyMatch(c -> c.getName().equals("gone-cert")), true, "listed as deleted");
            }
            same(this.<SyncPoller<KeyVaultCertificateWithPolicy, Void>>call(client, "beginRecoverDeletedCertificate", "gone-cert").waitForCompletion().getValue().getId(), id, "recovered");
            byte[] blob = call(client, "backupCertificate", "gone-cert");
            this.<SyncPoller<?, ?>>call(client, "beginDeleteCertificate", "gone-cert").waitForCompletion();
            call(client, "purgeDeletedCertificate", "gone-cert");
            same(this.<KeyVaultCertificateWithPolicy>call(client, "restoreCertificateBackup", blob).getId(), id, "restored");
            blob = call(client, "backupCertificateWithResponse", "gone-cert", none);
            this.<SyncPoller<?, ?>>call(client, "beginDeleteCertificate", "gone-cert").waitForCompletion();
            call(client, "purgeDeletedCertificateWithResponse", "gone-cert", none);
            same(this.<KeyVaultCertificateWithPolicy>call(client, "restoreCertificateBackupWithResponse", blob, none).getId(), id, "restored");
        });
        leg(() -> {
            List<CertificateContact> people = List.of(new CertificateContact().setEmail("a@example.org").setName("A").setPhone("1"));
            for (Object[] context : new Object[][] {{}, {none}}) {
                Object[] set = context.length == 0 ? new Object[] {people} : new Object[] {people, none};
                same(this.<List<CertificateContact>>call(client, "setContacts", set).get(0).getEmail(), "a@example.org", "contacts set");
                same(this.<List<CertificateContact>>call(client, "listContacts", context).get(0).getName(), "A", "contacts read");
                same(this.<List<CertificateContact>>call(client, "deleteContacts", context).get(0).getPhone(), "1", "contacts deleted");
            }
            for (boolean whole : new boolean[] {false, true}) {
                String s = whole ? "WithResponse" : "";
                Object[] context = whole ? new Object[] {none} : new Object[] {};
                CertificateIssuer wanted = new CertificateIssuer("authority", "Test").setAccountId("me").setPassword("secret").setOrganizationId("org")
                    .setAdministratorContacts(List.of(new AdministratorContact().setFirstName("A").setLastName("B").setEmail("a@example.org").setPhone("1")));
                CertificateIssuer made = call(client, "createIssuer" + s, with(wanted, context));
                same(List.of(made.getProvider(), made.getAccountId(), made.getAdministratorContacts().get(0).getLastName()), List.of("Test", "me", "B"), "issuer made");
                same(this.<CertificateIssuer>call(client, "updateIssuer" + s, with(made.setEnabled(false), context)).isEnabled(), false, "issuer updated");
                same(this.<CertificateIssuer>call(client, "getIssuer" + s, with("authority", context)).getOrganizationId(), "org", "issuer read");
                same(this.<List<IssuerProperties>>call(client, "listPropertiesOfIssuers", context).size(), 1, "issuers listed");
                same(this.<CertificateIssuer>call(client, "deleteIssuer" + s, with("authority", context)).getName(), "authority", "issuer deleted");
            }
        });
    }

    static Object[] with(Object first, Object[] rest) {
        List<Object> all = new ArrayList<>(List.of(first));
        all.addAll(List.of(rest));
        return all.toArray();
    }

    // Credentials, and the order of it all.

    static void credentials(Map<String, TokenCredential> all) {
        Tour tour = new Tour("credential");
        all.forEach((name, credential) -> tour.leg(() -> {
            tour.last = name;
            same(new SecretClientBuilder().vaultUrl(VAULTS[0]).credential(credential).buildClient().setSecret("by-" + name, "x").getValue(), "x", "secret set");
            new KeyClientBuilder().vaultUrl(HSMS[0]).credential(credential).buildClient().createEcKey(new CreateEcKeyOptions("by-" + name).setHardwareProtected(true));
            tour.note(name, "ok");
        }));
        tour.report();
    }

    static void walk(int i, boolean async, TokenCredential credential) {
        String suffix = async ? " async" : "";
        Tour tour = new Tour("vault" + suffix);
        SecretClientBuilder secrets = new SecretClientBuilder().vaultUrl(VAULTS[i]).credential(credential);
        CertificateClientBuilder certificates = new CertificateClientBuilder().vaultUrl(VAULTS[i]).credential(credential);
        tour.secrets(async ? secrets.buildAsyncClient() : secrets.buildClient(), certificates.buildClient());
        tour.report(async ? SecretAsyncClient.class : SecretClient.class);
        tour = new Tour("vault" + suffix);
        tour.certificates(async ? certificates.buildAsyncClient() : certificates.buildClient());
        tour.report(async ? CertificateAsyncClient.class : CertificateClient.class);
        for (String url : List.of(VAULTS[i], HSMS[i])) {
            tour = new Tour((url.equals(HSMS[i]) ? "managed HSM" : "vault") + suffix);
            KeyClientBuilder keys = new KeyClientBuilder().vaultUrl(url).credential(credential);
            tour.keys(async ? keys.buildAsyncClient() : keys.buildClient(), url.equals(HSMS[i]), () -> new CryptographyClientBuilder().credential(credential));
            tour.report(async ? KeyAsyncClient.class : KeyClient.class, async ? CryptographyAsyncClient.class : CryptographyClient.class);
        }
    }

    public static void main(String[] args) {
        for (String jar : System.getProperty("java.class.path").split(File.pathSeparator)) {
            var name = java.util.regex.Pattern.compile("(azure-(?:identity|security-keyvault-\\w+))-([0-9.]+)\\.jar").matcher(new File(jar).getName());
            if (name.matches()) System.out.println("# " + name.group(1) + " " + name.group(2));
        }
        System.out.println("# note: backupSecretWithResponse returns the whole answer instead of the backup in it, which no vault restores; the tour restores what backupSecret returns");
        String tenant = System.getenv("AZURE_TENANT_ID"), app = System.getenv("AZURE_CLIENT_ID");
        TokenCredential principal = new DefaultAzureCredentialBuilder().disableInstanceDiscovery().build();
        TokenCredential identity = new ManagedIdentityCredentialBuilder().clientId(System.getenv("TOUR_IDENTITY")).build();
        credentials(new TreeMap<>(Map.of("DefaultAzureCredential", principal, "ManagedIdentityCredential", identity,
            "ClientSecretCredential", new ClientSecretCredentialBuilder().tenantId(tenant).clientId(app).clientSecret(System.getenv("AZURE_CLIENT_SECRET")).disableInstanceDiscovery().build(),
            "ClientCertificateCredential", new ClientCertificateCredentialBuilder().tenantId(tenant).clientId(app).pemCertificate(System.getenv("TOUR_CERTIFICATE")).disableInstanceDiscovery().build())));
        walk(0, false, principal);
        walk(1, true, identity);
        System.exit(0); // the clients' own threads would keep it
    }
}
