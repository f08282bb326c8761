//! The arguments of the `tpcore` command and the text of its `--help`. Owns names and words; refuses to do anything.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tpcore::{AccountId, EmptyDirectory};

use super::point::{Point, parse_account, parse_authorization};

const AFTER_HELP: &str = "\
Exit codes:
  0  done (a torn tail that was reported included)
  1  a check failed: the books do not balance, or a command was refused
  2  wrong usage
  3  bad input: a file's contents, or an account or authorization that does not exist
  4  the data directory is in use, not ours, missing, or of a newer format
  5  corruption, or a tail that is ambiguous
  6  disk full, or a write or sync that failed

Only serve, tenant, key, import, checkpoint, scrub and catalogue rebuild write. The others open the directory
read-only and work beside a running engine, up to its durable sequence number.";

/// A transaction-processing core for payments: authorizations decided over a double-entry ledger, durable before
/// anyone hears the answer.
#[derive(Parser, Debug)]
#[command(name = "tpcore", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Print JSON on standard output instead of text (one object; `dump` and `--csv` have their own forms).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Serve authorizations over HTTP. `--dev` makes a tenant with funded accounts and prints its key.
    #[cfg(feature = "serve")]
    Serve(Serve),
    /// Add and list tenants of a directory that no server has open.
    #[cfg(feature = "serve")]
    Tenant {
        #[command(subcommand)]
        verb: TenantVerb,
    },
    /// Add, list and revoke keys of a directory that no server has open.
    #[cfg(feature = "serve")]
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// Check and show the settings of `serve`.
    #[cfg(feature = "serve")]
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Book a bank's transactions from a CSV file. Run again, it changes nothing; a longer file adds its new rows.
    #[command(long_about = IMPORT_ABOUT)]
    Import(Import),
    /// List all accounts with their balances.
    Accounts(Accounts),
    /// List every leg of one account, with the balance after each.
    Statement(Statement),
    /// Show an authorization and every event that names it, old ones too.
    Authorization(Authorization),
    /// List all accounts as they stood at a time or sequence number.
    State(State),
    /// Print every event as one JSON object a line.
    Dump(Dump),
    /// Read every byte of journal, witness and checkpoints, replay, compare digests and invariants.
    Verify(Copies),
    /// As verify, and repair what one copy of the journal lacks from the other. The engine must not run; a running one scrubs by itself.
    Scrub(Copies),
    /// Write a checkpoint, so that the next start replays less.
    Checkpoint(Checkpoint),
    /// Work on the catalogue, the rebuildable index of the journal.
    Catalogue {
        #[command(subcommand)]
        verb: CatalogueVerb,
    },
}

const IMPORT_ABOUT: &str = "\
Book a bank's transactions from a CSV file.

The file is UTF-8 with the header row
  transaction_id,account_id,date,type,operation,amount_minor,balance_after_minor,category,partner_bank,partner_account
It is read and checked whole first; a file with a fault changes nothing. Amounts are haléř, ledger CZK/2. Engine time \
follows the rows' dates, so two runs into new directories end in the same balances. Killed at any moment and run again, \
it continues; run once more, it changes nothing; a longer file adds only its new rows. A difference from the bank's own \
running balance is reported and never a reason to refuse.";

/// Where the data is.
#[derive(Args, Debug)]
pub(crate) struct Directory {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Where the data and the second copy of its journal are.
#[derive(Args, Debug)]
pub(crate) struct Copies {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// The mirror: the folder of the second copy of the journal.
    #[arg(long, value_name = "DIR")]
    pub(crate) mirror: Option<PathBuf>,
}

/// What only a command that writes can decide about a directory.
#[derive(Args, Debug)]
pub(crate) struct Writing {
    /// Cut an ambiguous tail off and go on. Only when no other copy of the file is left: what is cut may have been acknowledged.
    #[arg(long)]
    pub(crate) accept_tail: bool,
    /// A folder for a second copy of the journal, on another disk; created when it is missing, and made whole first when it is not.
    #[arg(long, value_name = "DIR")]
    pub(crate) mirror: Option<PathBuf>,
    /// Make an empty data directory from its mirror: when the disk was replaced, not when it is not mounted.
    #[arg(long, requires = "mirror")]
    pub(crate) from_mirror: bool,
}

impl Writing {
    /// What is to be done with an empty data directory beside a mirror that is not.
    pub(crate) fn empty_directory(&self) -> EmptyDirectory {
        if self.from_mirror { EmptyDirectory::FromMirror } else { EmptyDirectory::Refuse }
    }
}

/// `tpcore checkpoint`
#[derive(Args, Debug)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) directory: Directory,
    #[command(flatten)]
    pub(crate) writing: Writing,
}

/// `tpcore import`
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The CSV file.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// The data directory; created when it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) writing: Writing,
}

/// `tpcore accounts`
#[derive(Args, Debug)]
pub(crate) struct Accounts {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Print CSV: id,ledger,kind,status,debits,credits,held,available,version (available is empty when unlimited).
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// `tpcore statement`
#[derive(Args, Debug)]
pub(crate) struct Statement {
    /// The account's id, a decimal number.
    #[arg(value_name = "ACCOUNT", value_parser = parse_account)]
    pub(crate) account: AccountId,
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// From this point on: a date, an RFC 3339 time in UTC, or a sequence number. Recorded time, not value date.
    #[arg(long, value_name = "TIME|SEQ")]
    pub(crate) from: Option<Point>,
    /// Up to and including this point; a date means the end of that day.
    #[arg(long, value_name = "TIME|SEQ")]
    pub(crate) to: Option<Point>,
}

/// `tpcore authorization`
#[derive(Args, Debug)]
pub(crate) struct Authorization {
    /// The authorization's id, a UUID made by the engine.
    #[arg(value_name = "ID", value_parser = parse_authorization)]
    pub(crate) id: tpcore::AuthorizationId,
    #[command(flatten)]
    pub(crate) directory: Directory,
}

/// `tpcore state`
#[derive(Args, Debug)]
pub(crate) struct State {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// The point: a date (the end of that day), an RFC 3339 time in UTC, or a sequence number.
    #[arg(long, value_name = "TIME|SEQ")]
    pub(crate) at: Point,
}

/// `tpcore dump`
#[derive(Args, Debug)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// The first sequence number to print.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub(crate) from: u64,
}

/// `tpcore catalogue`
#[derive(Subcommand, Debug)]
pub(crate) enum CatalogueVerb {
    /// Make the catalogue again from the journal; cursors that can be read stay.
    Rebuild(Directory),
}

/// Where settings come from.
#[cfg(feature = "serve")]
#[derive(Args, Debug)]
pub(crate) struct SettingArguments {
    /// A TOML file with settings. The environment (`TPCORE_` and the name, `__` for the dot) is stronger, flags are the strongest.
    #[arg(long, value_name = "FILE", env = "TPCORE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A setting, as `limits.body_bytes_max=32768`. May be given many times; `tpcore config check` lists all.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `tpcore serve`
#[cfg(feature = "serve")]
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The data directory; created when it is missing.
    #[arg(long, value_name = "DIR", env = "TPCORE_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    /// The address that gateways call (setting `listen`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// The address of metrics and the status page (setting `admin_listen`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) admin_listen: Option<String>,
    /// For trying things out, on loopback only: makes tenant 1 with funded accounts 1 to 10 and a merchant, 100, and prints new keys.
    #[arg(long)]
    pub(crate) dev: bool,
}

/// A directory that a server serves at other times, and its settings: of them the master key and the engine's count here.
#[cfg(feature = "serve")]
#[derive(Args, Debug)]
pub(crate) struct Served {
    #[command(flatten)]
    pub(crate) directory: Directory,
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
}

/// `tpcore tenant`
#[cfg(feature = "serve")]
#[derive(Subcommand, Debug)]
pub(crate) enum TenantVerb {
    /// Add a tenant.
    Add {
        /// Its number, 0 to 4294967294. 0 is the operator's own: its admins add tenants and agreements over HTTP.
        #[arg(value_name = "NUMBER")]
        tenant: String,
        /// Its name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        served: Served,
    },
    /// List all tenants.
    List(Served),
    /// Let money of one tenant's accounts be paid to another's.
    Agree {
        /// Whose money.
        #[arg(long, value_name = "NUMBER")]
        payer: String,
        /// Who may be paid.
        #[arg(long, value_name = "NUMBER")]
        payee: String,
        /// End the agreement instead.
        #[arg(long)]
        end: bool,
        #[command(flatten)]
        served: Served,
    },
}

/// `tpcore key`
#[cfg(feature = "serve")]
#[derive(Subcommand, Debug)]
pub(crate) enum KeyVerb {
    /// Add a key and print its secret, once.
    Add {
        /// Whose, a tenant's number.
        #[arg(long, value_name = "NUMBER")]
        tenant: String,
        /// Who holds it. Approvals need two different persons.
        #[arg(long)]
        person: String,
        /// What it may be used for: read, authorize, `money_movement`, admin.
        #[arg(long, value_name = "ROLE", value_delimiter = ',', required = true)]
        roles: Vec<String>,
        /// How it proves itself: bearer, hmac, ed25519, certificate.
        #[arg(long, default_value = "bearer")]
        kind: String,
        /// Of an ed25519 key: the public key; of a certificate: the SHA-256 of its DER form. Base64.
        #[arg(long, value_name = "BASE64")]
        public: Option<String>,
        #[command(flatten)]
        served: Served,
    },
    /// List a tenant's keys.
    List {
        /// Whose, a tenant's number.
        #[arg(long, value_name = "NUMBER")]
        tenant: String,
        #[command(flatten)]
        served: Served,
    },
    /// Revoke a key.
    Revoke {
        /// The key's id, 16 hex digits.
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        served: Served,
    },
}

/// `tpcore config`
#[cfg(feature = "serve")]
#[derive(Subcommand, Debug)]
pub(crate) enum ConfigVerb {
    /// Read all settings as `serve` would, and print each with its value and where that comes from.
    Check(SettingArguments),
}
