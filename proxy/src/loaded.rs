//! What of a gate's configuration may change while it runs: sessions keep what they began with, but for rules.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use retrace_access::{Authenticated, Directory, Principals};
use retrace_policy::rules::Policy;

use crate::catalogue::Keeper;
use crate::gateway::Target;
use crate::limits::SourceLimits;

/// What a gate goes by, as of one reading of the configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) targets: HashMap<String, Arc<Target>>,
    /// The rules.
    pub(crate) policy: Policy,
    /// The catalogues of targets with masked columns, or with rules that name what is in them.
    pub(crate) keepers: HashMap<String, Arc<Keeper>>,
    /// Hash of the configuration.
    pub(crate) policy_version: String,
    /// How often it was read before.
    pub(crate) generation: u64,
    /// What may come from one source.
    pub(crate) source_limits: SourceLimits,
}

impl Loaded {
    pub(crate) fn new(
        targets: Vec<Target>,
        policy: Policy,
        policy_version: String,
        source_limits: SourceLimits,
    ) -> Self {
        let targets = targets.into_iter().map(|target| (target.name.clone(), Arc::new(target)));
        let targets: HashMap<_, _> = targets.collect();
        let named = |target: &Target| policy.reads_names_at(&target.name);
        let read = targets.iter().filter(|(_, target)| !target.columns.is_empty() || named(target));
        let keepers = read.map(|(name, target)| (name.clone(), Arc::new(Keeper::new(target.clone()))));
        Self { keepers: keepers.collect(), targets, policy, policy_version, generation: 0, source_limits }
    }
}

/// The one that counts now.
#[derive(Debug)]
pub(crate) struct Latest {
    loaded: RwLock<Arc<Loaded>>,
    /// That of `loaded`, for who only wants to know whether it is another one.
    generation: AtomicU64,
    /// Those who keep the catalogue for sessions that began before.
    retired: Mutex<Vec<Weak<Keeper>>>,
}

impl Latest {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self {
            loaded: RwLock::new(Arc::new(loaded)),
            generation: AtomicU64::new(0),
            retired: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the configuration was read before: whoever has seen one number need not look again before it is another.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What counts now, and who somebody is by it who has just proved who they are; `None` if it names them no more. Never
    /// the rights of one configuration with the targets and masks of another.
    pub(crate) fn admit(
        &self,
        who: Authenticated,
        directory: &Directory,
    ) -> Option<(Arc<Loaded>, Authenticated)> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let principal = directory.principal(&who.principal.name)?;
        Some((Arc::clone(&loaded), Authenticated { principal, ..who }))
    }

    /// From now on `next` counts, with these principals.
    pub(crate) fn replace(&self, next: Loaded, directory: &Directory, principals: Principals) {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        directory.replace(principals);
        let next = Loaded { generation: loaded.generation + 1, ..next };
        self.generation.store(next.generation, Ordering::Release);
        let before = std::mem::replace(&mut *loaded, Arc::new(next));
        drop(loaded);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|keeper| keeper.strong_count() > 0);
        retired.extend(before.keepers.values().map(Arc::downgrade));
    }

    /// Everybody who keeps a catalogue.
    pub(crate) fn keepers(&self) -> Vec<Arc<Keeper>> {
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = retired.iter().filter_map(Weak::upgrade);
        retired.chain(self.now().keepers.values().cloned()).collect()
    }
}
