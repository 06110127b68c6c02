//! The command of each statement, and what kind of definition it is.

use pg_query::NodeEnum;
use pg_query::protobuf::{ObjectType, SetOperation, TransactionStmtKind};

use super::StatementKind;

/// What a definition may do. What is not listed is unknown.
pub(super) fn definition(node: &NodeEnum) -> StatementKind {
    match node {
        NodeEnum::CheckPointStmt(_)
        | NodeEnum::ConstraintsSetStmt(_)
        | NodeEnum::GrantStmt(_)
        | NodeEnum::GrantRoleStmt(_)
        | NodeEnum::AlterDefaultPrivilegesStmt(_)
        | NodeEnum::CommentStmt(_)
        | NodeEnum::CreateRoleStmt(_)
        | NodeEnum::AlterRoleStmt(_)
        | NodeEnum::ReassignOwnedStmt(_)
        | NodeEnum::AlterOwnerStmt(_)
        | NodeEnum::CreateTableSpaceStmt(_)
        | NodeEnum::AlterTableSpaceOptionsStmt(_)
        | NodeEnum::AlterDatabaseRefreshCollStmt(_)
        | NodeEnum::AlterCollationStmt(_) => StatementKind::Housekeeping,
        NodeEnum::CreateSchemaStmt(schema) if schema.schema_elts.is_empty() => StatementKind::Housekeeping,
        NodeEnum::CreateStmt(_)
        | NodeEnum::AlterTableStmt(_)
        | NodeEnum::IndexStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::AlterStatsStmt(_)
        | NodeEnum::CreateSeqStmt(_)
        | NodeEnum::AlterSeqStmt(_)
        | NodeEnum::CompositeTypeStmt(_)
        | NodeEnum::CreateEnumStmt(_)
        | NodeEnum::AlterEnumStmt(_)
        | NodeEnum::CreateDomainStmt(_)
        | NodeEnum::AlterDomainStmt(_)
        | NodeEnum::RenameStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_)
        | NodeEnum::AlterTableMoveAllStmt(_)
        | NodeEnum::ClusterStmt(_)
        | NodeEnum::ReindexStmt(_)
        | NodeEnum::RefreshMatViewStmt(_) => StatementKind::Definition,
        NodeEnum::AlterRoleSetStmt(_) | NodeEnum::AlterDatabaseSetStmt(_) | NodeEnum::AlterSystemStmt(_) => {
            StatementKind::SystemSetting
        }
        NodeEnum::CreateSchemaStmt(_)
        | NodeEnum::CreateFunctionStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::CreateEventTrigStmt(_)
        | NodeEnum::AlterEventTrigStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::DefineStmt(_)
        | NodeEnum::AlterTypeStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::CreateRangeStmt(_)
        | NodeEnum::CreateCastStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateTransformStmt(_)
        | NodeEnum::CreateExtensionStmt(_)
        | NodeEnum::AlterExtensionStmt(_)
        | NodeEnum::AlterExtensionContentsStmt(_)
        | NodeEnum::CreatePlangStmt(_)
        | NodeEnum::CreateAmStmt(_)
        | NodeEnum::CreatePolicyStmt(_)
        | NodeEnum::AlterPolicyStmt(_)
        | NodeEnum::CreateFdwStmt(_)
        | NodeEnum::AlterFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::AlterForeignServerStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::CreateUserMappingStmt(_)
        | NodeEnum::AlterUserMappingStmt(_)
        | NodeEnum::ImportForeignSchemaStmt(_)
        | NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_)
        | NodeEnum::CreatedbStmt(_)
        | NodeEnum::AlterDatabaseStmt(_)
        | NodeEnum::AlterObjectDependsStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_)
        | NodeEnum::SecLabelStmt(_)
        | NodeEnum::LoadStmt(_) => StatementKind::Code,
        _ => StatementKind::Unknown,
    }
}

/// The command in upper case; empty for a node that is no statement.
pub(super) fn verb(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::SelectStmt(select)
            if !select.values_lists.is_empty() && select.op() == SetOperation::SetopNone =>
        {
            "VALUES"
        }
        NodeEnum::SelectStmt(select) if select.into_clause.is_some() => "SELECT INTO",
        NodeEnum::SelectStmt(_) => "SELECT",
        NodeEnum::InsertStmt(_) => "INSERT",
        NodeEnum::UpdateStmt(_) => "UPDATE",
        NodeEnum::DeleteStmt(_) => "DELETE",
        NodeEnum::MergeStmt(_) => "MERGE",
        NodeEnum::CopyStmt(_) => "COPY",
        NodeEnum::ExplainStmt(_) => "EXPLAIN",
        NodeEnum::PrepareStmt(_) => "PREPARE",
        NodeEnum::ExecuteStmt(_) => "EXECUTE",
        NodeEnum::DeallocateStmt(_) => "DEALLOCATE",
        NodeEnum::DeclareCursorStmt(_) => "DECLARE CURSOR",
        NodeEnum::FetchStmt(fetch) if fetch.ismove => "MOVE",
        NodeEnum::FetchStmt(_) => "FETCH",
        NodeEnum::ClosePortalStmt(_) => "CLOSE",
        NodeEnum::TransactionStmt(transaction) => transaction_verb(transaction.kind()),
        NodeEnum::VariableSetStmt(_) => "SET",
        NodeEnum::VariableShowStmt(_) => "SHOW",
        NodeEnum::ListenStmt(_) => "LISTEN",
        NodeEnum::NotifyStmt(_) => "NOTIFY",
        NodeEnum::UnlistenStmt(_) => "UNLISTEN",
        NodeEnum::LockStmt(_) => "LOCK TABLE",
        NodeEnum::CallStmt(_) => "CALL",
        NodeEnum::DoStmt(_) => "DO",
        NodeEnum::VacuumStmt(vacuum) if !vacuum.is_vacuumcmd => "ANALYZE",
        NodeEnum::VacuumStmt(_) => "VACUUM",
        NodeEnum::TruncateStmt(_) => "TRUNCATE TABLE",
        NodeEnum::DiscardStmt(_) => "DISCARD",
        NodeEnum::LoadStmt(_) => "LOAD",
        NodeEnum::CheckPointStmt(_) => "CHECKPOINT",
        NodeEnum::ConstraintsSetStmt(_) => "SET CONSTRAINTS",
        NodeEnum::CommentStmt(_) => "COMMENT",
        NodeEnum::SecLabelStmt(_) => "SECURITY LABEL",
        NodeEnum::GrantStmt(grant) if !grant.is_grant => "REVOKE",
        NodeEnum::GrantStmt(_) => "GRANT",
        NodeEnum::GrantRoleStmt(grant) if !grant.is_grant => "REVOKE ROLE",
        NodeEnum::GrantRoleStmt(_) => "GRANT ROLE",
        NodeEnum::ReindexStmt(_) => "REINDEX",
        NodeEnum::ClusterStmt(_) => "CLUSTER",
        NodeEnum::RefreshMatViewStmt(_) => "REFRESH MATERIALIZED VIEW",
        NodeEnum::DropStmt(drop) => drop_verb(drop.remove_type()),
        _ => create_verb(node),
    }
}

fn transaction_verb(kind: TransactionStmtKind) -> &'static str {
    match kind {
        TransactionStmtKind::Undefined => "",
        TransactionStmtKind::TransStmtBegin => "BEGIN",
        TransactionStmtKind::TransStmtStart => "START TRANSACTION",
        TransactionStmtKind::TransStmtCommit => "COMMIT",
        TransactionStmtKind::TransStmtRollback => "ROLLBACK",
        TransactionStmtKind::TransStmtSavepoint => "SAVEPOINT",
        TransactionStmtKind::TransStmtRelease => "RELEASE",
        TransactionStmtKind::TransStmtRollbackTo => "ROLLBACK TO",
        TransactionStmtKind::TransStmtPrepare => "PREPARE TRANSACTION",
        TransactionStmtKind::TransStmtCommitPrepared => "COMMIT PREPARED",
        TransactionStmtKind::TransStmtRollbackPrepared => "ROLLBACK PREPARED",
    }
}

fn drop_verb(object: ObjectType) -> &'static str {
    match object {
        ObjectType::ObjectTable => "DROP TABLE",
        ObjectType::ObjectView => "DROP VIEW",
        ObjectType::ObjectMatview => "DROP MATERIALIZED VIEW",
        ObjectType::ObjectIndex => "DROP INDEX",
        ObjectType::ObjectSequence => "DROP SEQUENCE",
        ObjectType::ObjectSchema => "DROP SCHEMA",
        ObjectType::ObjectFunction => "DROP FUNCTION",
        ObjectType::ObjectProcedure => "DROP PROCEDURE",
        ObjectType::ObjectTrigger => "DROP TRIGGER",
        ObjectType::ObjectType => "DROP TYPE",
        ObjectType::ObjectExtension => "DROP EXTENSION",
        _ => "DROP",
    }
}

fn create_verb(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::CreateStmt(_) => "CREATE TABLE",
        NodeEnum::CreateTableAsStmt(create) if create.objtype() == ObjectType::ObjectMatview => {
            "CREATE MATERIALIZED VIEW"
        }
        NodeEnum::CreateTableAsStmt(_) => "CREATE TABLE AS",
        NodeEnum::ViewStmt(_) => "CREATE VIEW",
        NodeEnum::IndexStmt(_) => "CREATE INDEX",
        NodeEnum::CreateSeqStmt(_) => "CREATE SEQUENCE",
        NodeEnum::CreateSchemaStmt(_) => "CREATE SCHEMA",
        NodeEnum::CreateFunctionStmt(_) => "CREATE FUNCTION",
        NodeEnum::CreateTrigStmt(_) | NodeEnum::CreateEventTrigStmt(_) => "CREATE TRIGGER",
        NodeEnum::CreateExtensionStmt(_) => "CREATE EXTENSION",
        NodeEnum::CreateRoleStmt(_) => "CREATE ROLE",
        NodeEnum::CreateDomainStmt(_) => "CREATE DOMAIN",
        NodeEnum::CreateEnumStmt(_) | NodeEnum::CompositeTypeStmt(_) | NodeEnum::CreateRangeStmt(_) => {
            "CREATE TYPE"
        }
        NodeEnum::CreateStatsStmt(_) => "CREATE STATISTICS",
        NodeEnum::CreatePolicyStmt(_) => "CREATE POLICY",
        NodeEnum::CreatedbStmt(_) => "CREATE DATABASE",
        NodeEnum::CreatePublicationStmt(_) => "CREATE PUBLICATION",
        NodeEnum::CreateSubscriptionStmt(_) => "CREATE SUBSCRIPTION",
        NodeEnum::RuleStmt(_) => "CREATE RULE",
        NodeEnum::CreateCastStmt(_) => "CREATE CAST",
        NodeEnum::DefineStmt(_)
        | NodeEnum::CreatePlangStmt(_)
        | NodeEnum::CreateAmStmt(_)
        | NodeEnum::CreateFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::CreateUserMappingStmt(_)
        | NodeEnum::CreateTableSpaceStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateTransformStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_) => "CREATE",
        NodeEnum::ImportForeignSchemaStmt(_) => "IMPORT FOREIGN SCHEMA",
        NodeEnum::AlterTableStmt(_) => "ALTER TABLE",
        NodeEnum::AlterRoleStmt(_) | NodeEnum::AlterRoleSetStmt(_) => "ALTER ROLE",
        NodeEnum::AlterSystemStmt(_) => "ALTER SYSTEM",
        NodeEnum::AlterDatabaseStmt(_) | NodeEnum::AlterDatabaseSetStmt(_) => "ALTER DATABASE",
        NodeEnum::AlterDefaultPrivilegesStmt(_) => "ALTER DEFAULT PRIVILEGES",
        NodeEnum::DropRoleStmt(_) => "DROP ROLE",
        NodeEnum::DropOwnedStmt(_) => "DROP OWNED",
        NodeEnum::ReassignOwnedStmt(_) => "REASSIGN OWNED",
        NodeEnum::DropdbStmt(_) => "DROP DATABASE",
        NodeEnum::DropTableSpaceStmt(_)
        | NodeEnum::DropUserMappingStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => "DROP",
        // Every kind left that `definition` knows begins with ALTER.
        _ if definition(node) != StatementKind::Unknown => "ALTER",
        _ => "",
    }
}
