-- database: the one database that holds everything below.
CREATE DATABASE IF NOT EXISTS {database};
