//! What the tests of this crate share: a folder with a file of tokens, and the directory over it.

use retrace_proto::wire::PrincipalKind;
use tempfile::TempDir;

use crate::{Directory, EvidenceRight, Principal, Secret, TOKEN_TTL_DEFAULT, TokenEntry, TokenFile, time};

pub(crate) struct Gateway {
    pub(crate) dir: TempDir,
    pub(crate) tokens: TokenFile,
    pub(crate) directory: Directory,
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal {
        name: name.into(),
        kind: PrincipalKind::Agent,
        on_behalf_of: None,
        person: name.into(),
        review_key: None,
        groups: Vec::new(),
        targets: vec!["*".into()],
        evidence: EvidenceRight::Own,
        evidence_fingerprint: false,
        kill: crate::KillRight::None,
        hold: crate::HoldRight::None,
        limits: crate::PrincipalLimits::default(),
    }
}

/// A gateway with the principals `ann` and `bob`, and no tokens.
pub(crate) fn gateway() -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let tokens = TokenFile::init(&dir.path().join("tokens.toml")).unwrap();
    let directory = directory(&tokens, 1);
    Gateway { dir, tokens, directory }
}

pub(crate) fn directory(tokens: &TokenFile, mock_key: u8) -> Directory {
    let principals = vec![principal("ann"), principal("bob")];
    Directory::new(principals, tokens.clone(), Secret::new(vec![mock_key; 32])).unwrap()
}

impl Gateway {
    /// A token made now for 90 days.
    pub(crate) fn token(&self, principal: &str) -> (String, TokenEntry) {
        self.token_made_at(principal, time::now_unix_s())
    }

    pub(crate) fn token_made_at(&self, principal: &str, unix_s: i64) -> (String, TokenEntry) {
        let (text, entry) = self.tokens.create(principal, TOKEN_TTL_DEFAULT, unix_s).unwrap();
        (String::from_utf8(text.expose().to_vec()).unwrap(), entry)
    }
}
