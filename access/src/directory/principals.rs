use std::collections::HashMap;
use std::sync::Arc;

use retrace_proto::wire;

use super::DirectoryError;
use crate::principal::{Principal, check_name};

/// The principals of a configuration, found to be whole.
#[derive(Clone, Debug)]
pub struct Principals(HashMap<String, Arc<Principal>>);

impl Principals {
    /// Checks their names and kinds.
    ///
    /// # Errors
    /// Says which principal cannot be, and why.
    pub fn new(principals: Vec<Principal>) -> Result<Self, DirectoryError> {
        let mut by_name = HashMap::new();
        for principal in principals {
            let name = principal.name.clone();
            check_name(&name).map_err(|reason| DirectoryError::Name { name: name.clone(), reason })?;
            if principal.kind == wire::PrincipalKind::Unspecified {
                return Err(DirectoryError::Kind(name));
            }
            if by_name.insert(name.clone(), Arc::new(principal)).is_some() {
                return Err(DirectoryError::Duplicate(name));
            }
        }
        Ok(Self(by_name))
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<Principal>> {
        self.0.get(name).cloned()
    }
}
