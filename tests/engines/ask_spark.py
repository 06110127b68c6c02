"""Spark with Delta Lake: ask_spark.py TABLE. With s3://, AWS_… says how to get there.

SPARK_JARS has the jars of Delta, and of S3, divided by commas.
"""

import os
import time

# Spark's times come without a zone, in that of the process.
os.environ["TZ"] = "UTC"
time.tzset()
# It asks nobody where this machine is, and nobody else can reach it.
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

import pyspark
from pyspark.sql import SparkSession

import answers

SETTINGS = {
    "spark.jars": os.environ["SPARK_JARS"],
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # For one small table on one machine: as many parts as it has use for, and nothing to look at.
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}


def store():
    """Who may come in, it reads from the environment itself."""
    return {
        "spark.hadoop.fs.s3a.endpoint": os.environ["AWS_ENDPOINT_URL"],
        "spark.hadoop.fs.s3a.endpoint.region": os.environ["AWS_REGION"],
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }


def main():
    table, settings = answers.table(), SETTINGS
    if table.startswith("s3://"):
        # Of the names that Hadoop has for S3, this is the one that still means something.
        table, settings = table.replace("s3://", "s3a://", 1), SETTINGS | store()
    builder = SparkSession.builder.master("local[2]").appName("evidence")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.read.format("delta").load(table).createOrReplaceTempView("events")

    def ask(sql):
        answer = spark.sql(sql)
        return answer.columns, answer.collect()

    answers.answer("spark", pyspark.__version__, ask)
    spark.stop()


main()
