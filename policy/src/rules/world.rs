//! Whom and what the rules may name.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use retrace_proto::wire::PrincipalKind;

/// The principals, groups and targets of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Who acts.
    pub principals: Vec<WorldPrincipal>,
    /// Where.
    pub targets: Vec<WorldTarget>,
}

/// A principal as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldPrincipal {
    /// Its name.
    pub name: String,
    /// Human, agent or service.
    pub kind: PrincipalKind,
    /// Who it is: the same for all accounts of one person.
    pub person: String,
    /// For whom it acts.
    pub on_behalf_of: Option<String>,
    /// What it is a member of.
    pub groups: Vec<String>,
    /// Where it may do everything that no rule forbids; `*` is everywhere.
    pub targets: Vec<String>,
}

/// A target as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldTarget {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl World {
    /// The groups that anybody is a member of.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<&str> {
        self.principals.iter().flat_map(|principal| &principal.groups).map(String::as_str).collect()
    }

    /// Whether a rule may name this entity: there is one, or its type has a closed set of them, which the schema checks.
    pub(super) fn has(&self, entity: &EntityUid) -> bool {
        let name = entity.id().unescaped();
        match entity.type_name().to_string().as_str() {
            "Principal" => self.principals.iter().any(|principal| principal.name == name),
            "Group" => self.groups().contains(name),
            "Target" => self.targets.iter().any(|target| target.name == name),
            _ => true,
        }
    }

    /// What rules of this world are evaluated over, the actions of the schema among them.
    pub(super) fn entities(&self, schema: &Schema) -> Entities {
        let groups =
            self.groups().into_iter().map(|name| Entity::new_no_attrs(uid("Group", name), HashSet::new()));
        let principals = self.principals.iter().map(WorldPrincipal::entity);
        let targets = self.targets.iter().map(WorldTarget::entity);
        Entities::from_entities(groups.chain(principals).chain(targets), Some(schema))
            .expect("entities that are made here are as the schema says, and names are unique")
    }
}

impl WorldPrincipal {
    fn entity(&self) -> Entity {
        let kind = match self.kind {
            PrincipalKind::Agent => "agent",
            PrincipalKind::Service => "service",
            PrincipalKind::Human | PrincipalKind::Unspecified => "human",
        };
        let on_behalf_of = self.on_behalf_of.as_deref();
        let attributes = [
            ("name", RestrictedExpression::new_string(self.name.clone())),
            ("kind", RestrictedExpression::new_entity_uid(uid("Kind", kind))),
        ]
        .into_iter()
        .chain(
            on_behalf_of
                .map(|name| ("on_behalf_of", RestrictedExpression::new_entity_uid(uid("Principal", name)))),
        )
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let groups = self.groups.iter().map(|name| uid("Group", name)).collect();
        Entity::new(uid("Principal", &self.name), attributes, groups)
            .expect("its attributes are plain values")
    }
}

impl WorldTarget {
    fn entity(&self) -> Entity {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let attributes =
            [("name".to_owned(), text(&self.name)), ("protocol".to_owned(), text(self.protocol))];
        let labels = self.labels.iter().map(|(name, value)| (name.clone(), text(value)));
        Entity::new_with_tags(uid("Target", &self.name), attributes, [], labels)
            .expect("its attributes and tags are plain values")
    }
}

/// An entity by its type and name.
pub(super) fn uid(type_name: &str, name: &str) -> EntityUid {
    let type_name = EntityTypeName::from_str(type_name).expect("it is a type of the schema");
    EntityUid::from_type_name_and_id(type_name, EntityId::new(name))
}
