//! TLS: a certificate is verified whenever TLS is spoken, and what is wrong with it is said in one line.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use storekeeper_keyring::KeyringError;
use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate};

use crate::cluster::{Cluster, SUPERUSER};
use crate::database::runtime;

/// A certificate for `localhost` alone, and the authority that signed it.
fn certify(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    std::fs::write(folder.join("authority.pem"), certificate.pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec![String::from("localhost")]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    let secret = folder.join("server.key");
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_is_verified_unless_tls_is_off() {
    let cluster = Cluster::start(&["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"], certify);
    let (user, password) = SUPERUSER;
    let authority = cluster.folder().join("authority.pem").display().to_string();
    let url =
        |host: &str, query: &str| format!("postgres://{user}:{password}@{host}:{}/postgres?{query}", cluster.port());
    let trusted = format!("sslrootcert={}", authority.replace('/', "%2F"));
    runtime().block_on(async {
        let good = url("localhost", &format!("sslmode=verify-full&{trusted}"));
        migrate(&good).await.unwrap();
        for query in [format!("sslmode=verify-full&{trusted}"), format!("sslmode=require&{trusted}"), trusted.clone()] {
            let keyring = PostgresKeyring::open(&url("localhost", &query)).await.unwrap();
            assert!(is_encrypted(&cluster, "storekeeper").await, "{query}");
            drop(keyring);
        }
        let keyring = PostgresKeyring::open(&good).await.unwrap();
        enroll(&keyring, &[Rows::new(1).usual("a")]).await;
        // Nobody asked for TLS, and nobody listens between: the certificate is not looked at.
        let plain = PostgresKeyring::open(&url("127.0.0.1", "application_name=plain")).await.unwrap();
        assert!(!is_encrypted(&cluster, "plain").await);
        drop(plain);
        for (host, query) in [
            ("localhost", String::from("sslmode=require")),
            ("localhost", String::from("sslmode=prefer")),
            ("127.0.0.1", format!("sslmode=require&{trusted}")),
        ] {
            let error = PostgresKeyring::open(&url(host, &query)).await.map(drop).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, KeyringError::Unreachable(_)), "{text}");
            assert!(
                text.contains("cannot be trusted") && text.contains("sslrootcert") && !text.contains('\n'),
                "{text}"
            );
        }
        let missing = PostgresKeyring::open(&url("localhost", "sslrootcert=/nowhere.pem")).await.map(drop).unwrap_err();
        assert!(missing.to_string().contains("/nowhere.pem"), "{missing}");
    });
}

/// Whether sessions of this application are encrypted; there is one.
async fn is_encrypted(cluster: &Cluster, application: &str) -> bool {
    let client = crate::database::connect(&cluster.url(SUPERUSER, "postgres")).await;
    let sql = "SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let encrypted: Option<bool> = client.query_one(sql, &[&application]).await.unwrap().get(0);
    encrypted.expect("there is a session")
}

#[test]
fn a_server_that_demands_tls_is_told_from_one_that_knows_nobody() {
    let cluster = Cluster::start(&["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"], certify);
    cluster.psql("postgres", "CREATE ROLE guarded LOGIN");
    let rules = cluster.folder().join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("hostnossl all guarded all reject\n{others}")).unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()");
    runtime().block_on(async {
        let error = PostgresKeyring::open(&cluster.url(("guarded", "none"), "postgres")).await.map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("with TLS only") && text.contains("sslmode=verify-full"), "{text}");
    });
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() {
    runtime().block_on(async {
        let url = Cluster::shared().url(SUPERUSER, "postgres").replace("disable", "require");
        let error = PostgresKeyring::open(&url).await.map(drop).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("does not speak TLS") && text.contains("sslmode=disable") && !text.contains('\n'),
            "{text}"
        );
    });
}
