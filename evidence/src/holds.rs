use std::collections::{BTreeMap, BTreeSet};

use retrace_proto::{Id, Recorded};

use crate::control::{ControlKeys, HeldOn, NotObeyed, Order, order, signed_order};

/// Whose evidence must be kept, by all control records of a gateway's log.
///
/// They may be read in any order and more than once: a hold has an id, and what is lifted stays lifted.
///
/// A hold counts whoever set it, and is lifted only by a record that a query service signed. So nobody who merely writes to the
/// log can have evidence removed, and none is removed because the key is gone that signed its hold; that somebody may have too
/// much kept is the lesser harm, and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    set: BTreeMap<Id, BTreeSet<HeldOn>>,
    lifted: BTreeSet<Id>,
}

/// What a record says of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// It is set.
    Set {
        /// Which.
        hold_id: Id,
        /// What it is on.
        on: HeldOn,
        /// Whether a trusted key signed it. It counts whether or not, but only then it is known who set it and why.
        is_signed: bool,
    },
    /// It is lifted.
    Lifted(Id),
}

impl Holds {
    /// Takes in a record that stands in this partition of the control topic; `None` if it says nothing of holds.
    ///
    /// # Errors
    /// If it would lift a hold and is not signed as it must be: it lifts none.
    pub fn read(
        &mut self,
        keys: &ControlKeys,
        (topic_id, partition): (Id, u32),
        recorded: &Recorded,
    ) -> Result<Option<HoldChange>, NotObeyed> {
        match order(recorded) {
            Ok((Order::SetHold { hold_id, on }, _)) => {
                self.set.entry(hold_id).or_default().insert(on.clone());
                let is_signed = signed_order(keys, (topic_id, partition), recorded).is_ok();
                Ok(Some(HoldChange::Set { hold_id, on, is_signed }))
            }
            Ok((Order::LiftHold { hold_id }, _)) => {
                signed_order(keys, (topic_id, partition), recorded)?;
                self.lifted.insert(hold_id);
                Ok(Some(HoldChange::Lifted(hold_id)))
            }
            _ => Ok(None),
        }
    }

    /// The holds that count, by id.
    pub fn in_force(&self) -> impl Iterator<Item = (Id, &HeldOn)> {
        let unlifted = self.set.iter().filter(|(id, _)| !self.lifted.contains(id));
        unlifted.flat_map(|(id, on)| on.iter().map(|on| (*id, on)))
    }
}
