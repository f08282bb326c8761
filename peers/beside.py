#!/usr/bin/env python3
"""Runs PostgreSQL, Redis and tpcore in turn on this machine, and prints what each does beside tpcore.

    cargo build --release --locked -p tp-loadgen
    apt-get install postgresql redis-server        # Debian's; as root, since PostgreSQL must not run as root
    python3 peers/beside.py [--rounds 3] [--seconds 10] [--clients 32] [--accounts 1000000]

The work is one transfer at a time, each durable before its caller hears of it; so many callers, each with one transfer under way.
Rounds are interleaved, since disks drift; ratios are of one round, and their median is shown. Client and server share the cores.

- PostgreSQL: pgbench, prepared; a PL/pgSQL function that refuses an overdraft, moves the money, writes a row; fsync and synchronous
  commit on, as installed.
- Redis: redis-benchmark; a Lua script that refuses an overdraft and moves the money; appendonly, appendfsync always.
- tpcore: tp-loadgen, transfers only, uuid_v7 keys, checkpoints running. Its latency counts from the planned time of a rate that is never
  reached, so only its throughput is compared; `open loop` is a run of its own at half of that.
"""

import argparse
import glob
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SCHEMA = """
create table accounts (id bigint primary key, balance numeric not null);
create table transfers (id bigserial primary key, payer bigint, payee bigint, amount numeric, at timestamptz default now());
insert into accounts select n, 1000000000 from generate_series(1, %d) n;
create function transfer(a bigint, b bigint, m numeric) returns boolean language plpgsql as $$
begin
  -- In the order of their ids, so that two transfers never wait for each other.
  perform 1 from accounts where id in (a, b) order by id for update;
  update accounts set balance = balance - m where id = a and balance >= m;
  if not found then return false; end if;
  update accounts set balance = balance + m where id = b;
  insert into transfers (payer, payee, amount) values (a, b, m);
  return true;
end $$;
"""
PGBENCH = r"""\set a random(1, %d)
\set b random(1, %d)
\set m random(1, 10000)
select transfer(:a, :b, :m);
"""
LUA = (
    "local m = tonumber(ARGV[1]); local f = tonumber(redis.call('GET', KEYS[1]) or '1000000000'); "
    "if f < m then return 0 end; redis.call('SET', KEYS[1], f - m); redis.call('INCRBY', KEYS[2], ARGV[1]); return 1"
)


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


class Postgres:
    """A cluster of its own in a folder of its own, over a socket there."""

    name = "PostgreSQL"

    def __init__(self, folder, options):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            raise FileNotFoundError("postgresql is not installed")
        self.bin, self.folder, self.options = found[-1], os.path.join(folder, "postgres"), options
        os.mkdir(self.folder)
        self.user = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.user = ["runuser", "-u", "postgres", "--"]
        self.call("initdb", "-D", f"{self.folder}/data", "--no-instructions")
        settings = f"-c listen_addresses= -c unix_socket_directories={self.folder}"
        self.call("pg_ctl", "-D", f"{self.folder}/data", "-w", "-o", settings, "-l", f"{self.folder}/log", "start")
        self.call("psql", "-h", self.folder, "-q", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA % options.accounts, "postgres")
        self.call("psql", "-h", self.folder, "-q", "-c", "vacuum analyze accounts", "postgres")
        self.version = self.call("postgres", "--version").split()[2]
        self.script = f"{self.folder}/transfer.sql"
        with open(self.script, "w", encoding="utf-8") as script:
            script.write(PGBENCH % (options.accounts, options.accounts))

    def call(self, program, *arguments):
        return run([*self.user, f"{self.bin}/{program}", *arguments], cwd=self.folder)

    def measure(self):
        clients = str(self.options.clients)
        for old in glob.glob(f"{self.folder}/times*"):
            os.remove(old)
        out = self.call(
            "pgbench", "-h", self.folder, "-n", "-M", "prepared", "-c", clients, "-j", "2", "-T", str(self.options.seconds),
            "-f", self.script, "-l", f"--log-prefix={self.folder}/times", "postgres",
        )  # fmt: skip
        rate = float(next(line for line in out.splitlines() if line.startswith("tps")).split()[2])
        times = []
        for log in glob.glob(f"{self.folder}/times*"):
            with open(log, encoding="utf-8") as lines:
                times.extend(int(line.split()[2]) / 1000 for line in lines)
        times.sort()
        return rate, percentile(times, 0.5), percentile(times, 0.99)

    def close(self):
        self.call("pg_ctl", "-D", f"{self.folder}/data", "-m", "fast", "stop")


class Redis:
    """A server of its own on a socket in a folder of its own."""

    name = "Redis"

    def __init__(self, folder, options):
        if not shutil.which("redis-server"):
            raise FileNotFoundError("redis-server is not installed")
        self.folder, self.options = os.path.join(folder, "redis"), options
        os.mkdir(self.folder)
        self.socket = f"{self.folder}/socket"
        settings = ["--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "", "--appendonly", "yes"]
        self.server = subprocess.Popen(
            ["redis-server", *settings, "--appendfsync", "always"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not os.path.exists(self.socket):
            if self.server.poll() is not None:
                raise RuntimeError("redis-server ended")
            time.sleep(0.1)
        self.version = run(["redis-server", "--version"]).split("v=")[1].split()[0]
        self.sha = run(["redis-cli", "-s", self.socket, "script", "load", LUA]).strip()
        self.rate = 10_000

    def measure(self):
        command = [
            "redis-benchmark", "-s", self.socket, "-c", str(self.options.clients), "-n", str(int(self.rate * self.options.seconds)),
            "-r", str(self.options.accounts), "--csv", "EVALSHA", self.sha, "2", "a:__rand_int__", "b:__rand_int__", "10",
        ]  # fmt: skip
        row = run(command).strip().splitlines()[-1].replace('"', "").split(",")
        # "test","rps","avg","min","p50","p95","p99","max": the name of the test has commas of its own.
        rate, _, _, p50, _, p99, _ = (float(field) for field in row[-7:])
        self.rate = rate
        return rate, p50, p99

    def close(self):
        self.server.terminate()
        self.server.wait()


class Tpcore:
    """The load generator with the engine in it."""

    name = "tpcore"

    def __init__(self, _folder, options):
        self.options, self.version = options, "this checkout"
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
        self.program = os.path.join(target, "release", "tp-loadgen")

    def drive(self, *arguments):
        command = [
            self.program, "-q", "--json", "-", "--mix", "transfer=1", "--accounts", str(self.options.accounts), "--warm-up", "2s",
            "--duration", f"{self.options.seconds}s", "--allow-busy", *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        report = json.loads(done.stdout)
        latency = report["latency_ns"]
        return report["achieved_per_s"], latency["p50"] / 1e6, latency["p99"] / 1e6

    def measure(self):
        return self.drive("--rate", "1m", "--in-flight", str(self.options.clients))

    def open_loop(self, rate):
        return self.drive("--rate", str(int(rate)))

    def close(self):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [("rounds", 3), ("seconds", 10), ("clients", 32), ("accounts", 1_000_000)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        systems, results = [Tpcore(folder, options)], {}
        for make in (Postgres, Redis):
            try:
                systems.append(make(folder, options))
            except FileNotFoundError as why:
                print(f"left out: {why}", file=sys.stderr)
        try:
            for _ in range(options.rounds):
                for system in systems:
                    time.sleep(5)
                    results.setdefault(system.name, []).append(system.measure())
            tpcore = [rate for rate, _, _ in results["tpcore"]]
            print(f"one transfer at a time, {options.clients} callers, {options.accounts} accounts, {options.rounds} rounds of {options.seconds} s")
            print(f"{'system':<24} {'transfers/s: lowest, median, highest':>38}   tpcore's ratio   p50, p99 in ms (medians)")
            for system in systems:
                rates, p50, p99 = zip(*results[system.name])
                ratio = statistics.median(ours / theirs for ours, theirs in zip(tpcore, rates))
                times = "" if system.name == "tpcore" else f"{statistics.median(p50):.2f}, {statistics.median(p99):.2f}"
                low, middle, high = min(rates), statistics.median(rates), max(rates)
                print(f"{system.name + ' ' + system.version:<24} {low:>12,.0f} {middle:>12,.0f} {high:>12,.0f}   {ratio:>14.1f}   {times}")
            rate = statistics.median(tpcore) / 2
            _, p50, p99 = systems[0].open_loop(rate)
            print(f"tpcore, open loop at {rate:,.0f}/s from planned send times: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        finally:
            for system in systems:
                system.close()


if __name__ == "__main__":
    main()
