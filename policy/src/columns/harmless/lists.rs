//! Names, separated by white space.

/// Functions that execute a text, or read what they are given the name of.
pub(super) const DYNAMIC: &str = "\
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml \
    table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema \
    schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema ts_stat \
    ts_rewrite xpath_table connectby currtid2 pgstatginindex get_raw_page heap_page_items heap_page_item_attrs \
    tuple_data_split bt_page_items gist_page_items pg_prewarm pg_logical_slot_get_changes \
    pg_logical_slot_peek_changes pg_logical_slot_get_binary_changes pg_logical_slot_peek_binary_changes";

/// Functions of widespread extensions that read no table though they are volatile or stable.
pub(super) const EXTENSION_FUNCTIONS: &str = "\
    uuid_generate_v1 uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5 gen_random_uuid \
    gen_random_bytes gen_salt unaccent set_limit show_limit show_trgm word_similarity";

/// Tables and views of `pg_catalog` that hold definitions and counters.
pub(super) const SYSTEM_RELATIONS: &str = "\
    pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members \
    pg_available_extension_versions pg_available_extensions pg_cast pg_class pg_collation pg_config \
    pg_constraint pg_conversion pg_database pg_db_role_setting pg_default_acl pg_depend pg_description pg_enum \
    pg_event_trigger pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_group pg_index \
    pg_indexes pg_inherits pg_init_privs pg_language pg_largeobject_metadata pg_locks pg_matviews pg_namespace \
    pg_opclass pg_operator pg_opfamily pg_parameter_acl pg_partitioned_table pg_policies pg_policy pg_proc \
    pg_publication pg_publication_namespace pg_publication_rel pg_publication_tables pg_range \
    pg_replication_origin pg_rewrite pg_roles pg_rules pg_seclabel pg_seclabels pg_sequence pg_sequences \
    pg_settings pg_shdepend pg_shdescription pg_shseclabel pg_stat_all_indexes pg_stat_all_tables \
    pg_stat_archiver pg_stat_bgwriter pg_stat_checkpointer pg_stat_database pg_stat_database_conflicts \
    pg_stat_gssapi pg_stat_io pg_stat_replication pg_stat_ssl pg_stat_statements_info pg_stat_sys_indexes pg_stat_sys_tables \
    pg_stat_user_functions pg_stat_user_indexes pg_stat_user_tables pg_stat_wal pg_stat_xact_all_tables \
    pg_stat_xact_user_tables pg_statio_all_indexes pg_statio_all_sequences pg_statio_all_tables \
    pg_statio_user_indexes pg_statio_user_sequences pg_statio_user_tables pg_statistic_ext pg_subscription \
    pg_subscription_rel pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_transform pg_trigger \
    pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user pg_user_mapping \
    pg_user_mappings pg_views";

/// Views of `information_schema`: definitions, all of them.
pub(super) const INFORMATION_SCHEMA: &str = "\
    administrable_role_authorizations applicable_roles attributes character_sets \
    check_constraint_routine_usage check_constraints collation_character_set_applicability collations \
    column_column_usage column_domain_usage column_options column_privileges column_udt_usage columns \
    constraint_column_usage constraint_table_usage data_type_privileges domain_constraints domain_udt_usage \
    domains element_types enabled_roles foreign_data_wrapper_options foreign_data_wrappers \
    foreign_server_options foreign_servers foreign_table_options foreign_tables \
    information_schema_catalog_name key_column_usage parameters referential_constraints role_column_grants \
    role_routine_grants role_table_grants role_udt_grants role_usage_grants routine_column_usage \
    routine_privileges routine_routine_usage routine_sequence_usage routine_table_usage routines schemata \
    sequences sql_features sql_implementation_info sql_parts sql_sizing table_constraints table_privileges \
    tables transforms triggered_update_columns triggers udt_privileges usage_privileges user_defined_types \
    user_mapping_options user_mappings view_column_usage view_routine_usage view_table_usage views";

/// Functions of `pg_catalog` that are not immutable, or not compiled, and yet show nothing of a masked column.
pub(super) const SYSTEM_FUNCTIONS: &str = "\
    aclexplode age any_value anytextcat array_reverse array_sample array_shuffle array_sort array_to_json \
    array_to_string bernoulli bit_length casefold clock_timestamp col_description concat concat_ws convert \
    convert_from convert_to crc32 crc32c current_database current_query current_schema current_schemas \
    current_setting current_user currval date date_add date_cmp_timestamptz date_eq_timestamptz \
    date_ge_timestamptz date_gt_timestamptz date_le_timestamptz date_lt_timestamptz date_ne_timestamptz \
    date_part date_subtract date_trunc enum_first enum_last enum_range extract format format_type \
    gen_random_uuid generate_series get_current_ts_config getdatabaseencoding getpgusername \
    has_any_column_privilege has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege \
    has_function_privilege has_language_privilege has_parameter_privilege has_schema_privilege \
    has_sequence_privilege has_server_privilege has_table_privilege has_tablespace_privilege \
    has_type_privilege in_range inet_client_addr inet_client_port inet_server_addr inet_server_port \
    int8pl_inet integer_pl_date interval_pl_date interval_pl_time interval_pl_timestamp \
    interval_pl_timestamptz interval_pl_timetz json json_agg json_build_array json_build_object \
    json_object_agg json_populate_record json_populate_recordset json_scalar json_serialize json_to_record \
    json_to_recordset json_to_tsvector jsonb_agg jsonb_build_array jsonb_build_object jsonb_object_agg \
    jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz \
    jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_to_record jsonb_to_recordset \
    jsonb_to_tsvector lastval length like_escape log log10 lpad make_timestamptz money mxid_age nextval now \
    numeric numeric_pl_pg_lsn obj_description oidvectortypes overlaps path_contain_pt pg_advisory_lock \
    pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared \
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_available_extension_versions pg_available_extensions \
    pg_backend_pid pg_basetype pg_blocking_pids pg_cancel_backend pg_char_to_encoding pg_client_encoding \
    pg_collation_actual_version pg_collation_for pg_collation_is_visible pg_column_compression \
    pg_column_is_updatable pg_column_size pg_conf_load_time pg_control_checkpoint pg_conversion_is_visible \
    pg_current_logfile pg_current_snapshot pg_current_wal_flush_lsn pg_current_wal_insert_lsn \
    pg_current_wal_lsn pg_current_xact_id pg_current_xact_id_if_assigned pg_database_collation_actual_version \
    pg_database_size pg_describe_object pg_encoding_to_char pg_export_snapshot pg_extension_update_paths \
    pg_filenode_relation pg_function_is_visible pg_get_acl pg_get_catalog_foreign_keys pg_get_constraintdef \
    pg_get_expr pg_get_function_arg_default pg_get_function_arguments pg_get_function_identity_arguments \
    pg_get_function_result pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef pg_get_keywords \
    pg_get_loaded_modules pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef \
    pg_get_publication_tables pg_get_replica_identity_index pg_get_ruledef pg_get_serial_sequence \
    pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions \
    pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_identify_object \
    pg_identify_object_as_address pg_index_column_has_property pg_index_has_property pg_indexam_has_property \
    pg_indexes_size pg_input_is_valid pg_is_in_recovery pg_is_other_temp_schema pg_is_wal_replay_paused \
    pg_jit_available pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp \
    pg_listening_channels pg_lock_status pg_my_temp_schema pg_notification_queue_usage pg_notify \
    pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible pg_options_to_table \
    pg_partition_ancestors pg_partition_tree pg_postmaster_start_time pg_prepared_xact pg_relation_filenode \
    pg_relation_is_publishable pg_relation_is_updatable pg_relation_size pg_safe_snapshot_blocking_pids \
    pg_sequence_last_value pg_sequence_parameters pg_settings_get_flags pg_show_all_settings \
    pg_show_replication_origin_status pg_sleep pg_sleep_for pg_sleep_until pg_stat_get_dead_tuples \
    pg_stat_get_live_tuples pg_stat_get_numscans pg_stat_get_tuples_deleted pg_stat_get_tuples_inserted \
    pg_stat_get_tuples_updated pg_stat_have_stats pg_statistics_obj_is_visible pg_table_is_visible \
    pg_table_size pg_tablespace_databases pg_tablespace_location pg_tablespace_size pg_terminate_backend \
    pg_timezone_abbrevs pg_timezone_names pg_total_relation_size pg_trigger_depth pg_try_advisory_lock \
    pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared \
    pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible \
    pg_type_is_visible pg_typeof pg_xact_commit_timestamp pg_xact_status phraseto_tsquery plainto_tsquery \
    polygon quote_literal quote_nullable random random_normal regclass round row_security_active row_to_json \
    rpad session_user set_config setseed setval shobj_description similar_to_escape statement_timestamp \
    substring system system_user textanycat time timedate_pl timeofday timestamp timestamp_cmp_timestamptz \
    timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz \
    timestamp_lt_timestamptz timestamp_ne_timestamptz timestamptz timestamptz_cmp_date \
    timestamptz_cmp_timestamp timestamptz_eq_date timestamptz_eq_timestamp timestamptz_ge_date \
    timestamptz_ge_timestamp timestamptz_gt_date timestamptz_gt_timestamp timestamptz_le_date \
    timestamptz_le_timestamp timestamptz_lt_date timestamptz_lt_timestamp timestamptz_mi_interval \
    timestamptz_ne_date timestamptz_ne_timestamp timestamptz_pl_interval timetz timetzdate_pl timezone to_bin \
    to_char to_date to_json to_jsonb to_number to_oct to_regclass to_regcollation to_regnamespace to_regoper \
    to_regoperator to_regproc to_regprocedure to_regrole to_regtype to_regtypemod to_timestamp to_tsquery \
    to_tsvector transaction_timestamp trunc ts_debug ts_headline ts_match_tq ts_match_tt ts_parse \
    ts_token_type txid_current txid_current_if_assigned txid_current_snapshot txid_status unistr uuidv4 uuidv7 \
    version websearch_to_tsquery xml xml_is_well_formed xpath xpath_exists";
