package verdant.app;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.EnableConfigurationProperties;

/**
 * A Spring Boot application in the manner of the certificate services: its
 * properties come from the vault through Microsoft's starter. It prints each
 * with the SHA-256 of its value, and ends.
 */
@SpringBootApplication
@EnableConfigurationProperties(App.Connector.class)
public class App implements CommandLineRunner {
    /** The connector's properties, as that library names and nests them. */
    @ConfigurationProperties("dgc.gateway.connector")
    public static class Connector {
        private final Store trustAnchor = new Store(), tlsTrustStore = new Store(), tlsKeyStore = new Store(), uploadKeyStore = new Store();

        public Store getTrustAnchor() { return trustAnchor; }
        public Store getTlsTrustStore() { return tlsTrustStore; }
        public Store getTlsKeyStore() { return tlsKeyStore; }
        public Store getUploadKeyStore() { return uploadKeyStore; }
    }

    public static class Store {
        private String path, password, alias;

        public String getPath() { return path; }
        public void setPath(String path) { this.path = path; }
        public String getPassword() { return password; }
        public void setPassword(String password) { this.password = password; }
        public String getAlias() { return alias; }
        public void setAlias(String alias) { this.alias = alias; }
    }

    private final Connector connector;
    private final String issuanceAlias, anchorAlias;

    App(Connector connector, @Value("${issuance.certAlias:}") String issuanceAlias, @Value("${dgc.trustAnchor.certificateAlias:}") String anchorAlias) {
        this.connector = connector;
        this.issuanceAlias = issuanceAlias;
        this.anchorAlias = anchorAlias;
    }

    @Override
    public void run(String... args) throws Exception {
        print("dgc.gateway.connector.trustAnchor.alias", connector.getTrustAnchor().getAlias());
        print("dgc.gateway.connector.trustAnchor.password", connector.getTrustAnchor().getPassword());
        print("dgc.gateway.connector.tlsTrustStore.password", connector.getTlsTrustStore().getPassword());
        print("dgc.gateway.connector.tlsKeyStore.alias", connector.getTlsKeyStore().getAlias());
        print("dgc.gateway.connector.uploadKeyStore.alias", connector.getUploadKeyStore().getAlias());
        print("issuance.certAlias", issuanceAlias);
        print("dgc.trustAnchor.certificateAlias", anchorAlias);
    }

    private static void print(String property, String value) throws Exception {
        if (value != null && !value.isEmpty()) {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(value.getBytes(StandardCharsets.UTF_8));
            System.out.println("vault-property " + property + " " + HexFormat.of().formatHex(digest));
        }
    }

    public static void main(String[] args) {
        SpringApplication.run(App.class, args);
    }
}
