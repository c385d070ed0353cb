# ruff: noqa: ARG001, C408, C416, C901, E401, E731, F841, I001, N803, N806, PLC0415, PLR0912, PLR0915, PTH103, PTH123, SIM115, UP031
# Numerical code in its field's notation, kept as it is so that a seed means the same data for ever.
# mypy: ignore-errors
"""Seeded generator of labelled API-key leaks: per-minute usage of tenants' keys, as a proxy would meter it.

python generate.py --seed 1 --out DIR      (needs numpy, pandas, pyarrow; 200 keys x 28 days in about 20 s)

writes
  minutes.parquet   minute (UTC), key, pool, network, model, agent, requests, tokens: one row for each
                    (minute, key, network, model, agent) with traffic; what the proxy metered
  provider.parquet  minute, available_at, pool, tokens: what the provider's usage report shows for each pooled
                    key; a row may be used from available_at on (5 minutes after its minute)
  labels.json       start, end (end exclusive), key or pool, kind, leak (true) or benign look-alike (false)

A detector may read only rows whose minute (provider rows: available_at) is not after the moment it decides.
Days 0 to 6 are for warming up and are not scored.

Assumptions, not measurements: the mix of key classes, churn of networks, models and agents, and that 85 % of
attackers show a network, model or agent new to the key. Request sizes of business and batch keys follow the Azure LLM
inference traces of 2023 (conversation: mean 1366 tokens, cv 0.81; code: mean 2076, cv 0.95).
"""

import argparse, numpy as np

CLASSES = ["business", "agent", "batch", "hobby", "growth", "newborn"]
SHARE = [0.35, 0.175, 0.175, 0.20, 0.05, 0.05]
LEAKS = [
    "sudden_3x",
    "sudden_10x",
    "sudden_50x",
    "slow_ramp",
    "offhours_low",
    "dormant_wake",
    "new_fp_only",
    "in_bursty",
    "pooled_unmetered",
]


def make(seed=1, K=200, days=28, P=8, per_kind=9):
    r = np.random.default_rng(seed)
    T = days * 1440
    t = np.arange(T)
    n = np.floor(np.array(SHARE) * K + 1e-9).astype(int)
    n[0] += K - n.sum()
    cls = np.repeat(np.arange(6), n)
    pool = r.integers(0, P, K)
    tz = r.choice([-480, -300, 0, 60, 330, 540], K, p=[0.2, 0.2, 0.15, 0.25, 0.1, 0.1])
    born = np.zeros(K, int)
    lab = []
    ev = []
    fpb = []

    def label(k, p, s, e, kind, leak, mag, fp):
        lab.append((k, p, int(s), int(e), kind, leak, float(mag), fp))

    # AR(1) log noise at 5 min steps: slow (hours) + fast
    n5 = T // 5
    sl = np.zeros((K, n5), np.float32)
    ss = np.where(cls == 1, 0.20, 0.18)
    sf = 0.15
    a = np.zeros(K)
    b = np.zeros(K)
    e1 = r.standard_normal((n5, K))
    e2 = r.standard_normal((n5, K))
    for i in range(n5):
        a = 0.985 * a + np.sqrt(1 - 0.985**2) * ss * e1[i]
        b = 0.7 * b + np.sqrt(1 - 0.49) * sf * e2[i]
        sl[:, i] = a + b
    ar = np.exp(np.repeat(sl, 5, 1))
    lam = np.zeros((K, T))
    mtok = np.zeros(K)
    cv = np.zeros(K)
    dst_day = min(21, days - 3)
    launch = min(16, days - 5)
    monthend = days - 2
    outage = int(min(12, days - 6) * 1440 + r.integers(0, 1440))
    for k in range(K):
        c = cls[k]
        mtok[k] = r.choice([1366, 2076]) * np.exp(0.3 * r.standard_normal())
        cv[k] = r.uniform(0.8, 1.0)
        if c in (0, 4, 5):
            off = np.full(T, tz[k])
            is_dst = tz[k] in (-480, -300, 60)
            if is_dst:
                off = np.where(t >= dst_day * 1440, off + 60, off)
            if is_dst and c == 0:
                label(k, -1, dst_day * 1440, (dst_day + 2) * 1440, "dst_shift", 0, 1, 0)
            lt = t + off
            hod = (lt % 1440) / 60
            dow = (lt // 1440) % 7
            w = r.uniform(7, 9.5)
            e = r.uniform(16.5, 20)
            day = 1 / (1 + np.exp(-(hod - w) * 2.2)) * 1 / (1 + np.exp((hod - e) * 1.6))
            day *= 1 - r.uniform(0.1, 0.3) * np.exp(-(((hod - 12.6) / 0.6) ** 2))
            wk = np.where(dow >= 5, r.uniform(0.05, 0.35), 1 - 0.1 * (dow == 4))
            night = r.uniform(0.01, 0.06)
            sc = np.exp(np.log(15) + 1.0 * r.standard_normal())
            g = {0: r.uniform(-0.005, 0.015), 4: r.uniform(0.04, 0.08), 5: 0.03}[c]
            lam[k] = sc * (day * wk + night) * np.exp(g * t / 1440)
            if c == 5:
                born[k] = int(r.uniform(6, min(18, days - 3)) * 1440)
                s = born[k]
                lam[k] *= np.clip((t - s) / (1440 * 3), 0, 1) ** 0.7 * (t >= s)
                label(k, -1, s, min(T, s + 3 * 1440), "cold_start", 0, 1, 0)
            if c == 0 and r.random() < 0.3:
                m = r.uniform(1.4, 2.0)
                lam[k, monthend * 1440 :] *= m
                label(k, -1, monthend * 1440, T, "month_end", 0, m, 0)
        elif c == 1:
            mtok[k] *= r.uniform(3, 8)
            sc = np.exp(np.log(6) + 0.8 * r.standard_normal())
            lam[k] = sc * (1 + r.uniform(0, 0.3) * np.sin(2 * np.pi * (t + tz[k]) / 1440))
            # agent loops: random heavy runs
            for s in np.flatnonzero(r.random(T) < r.uniform(0.3, 2) / 1440):
                lam[k, s : s + r.integers(10, 90)] *= r.uniform(1.4, 2.5)
        elif c == 2:
            sc = np.exp(np.log(40) + 0.8 * r.standard_normal())
            typ = r.integers(3)
            if typ < 2:
                per = [60, 1440][typ]
                ph = r.integers(per)
                d0 = [r.integers(4, 20), r.integers(30, 180)][typ]
                for s in range(ph, T, per):
                    if typ == 1 and r.random() < 0.05:
                        continue
                    s2 = s + r.integers(0, 6)
                    d = max(2, int(d0 * np.exp(0.35 * r.standard_normal())))
                    lam[k, s2 : s2 + d] += sc * np.exp(0.3 * r.standard_normal())
            for s in np.flatnonzero(r.random(T) < (2.5 if typ == 2 else 0.5) / 1440):
                d = int(np.clip(15 * np.exp(1.0 * r.standard_normal()), 2, 360))
                lam[k, s : s + d] += sc * np.exp(0.6 * r.standard_normal())
        else:
            rate = np.exp(np.log(0.9) + 0.6 * r.standard_normal())
            lt = t + tz[k]
            hod = (lt % 1440) / 60
            pr = rate / 1440 * np.where((hod > 8) & (hod < 24), 1.45, 0.1)
            for s in np.flatnonzero(r.random(T) < pr):
                lam[k, s : s + r.integers(5, 45)] += r.uniform(0.5, 2)
    # global benign events
    for k in range(K):
        if cls[k] != 3 and cls[k] != 5 and r.random() < 0.15:
            s = launch * 1440 + r.integers(0, 2 * 1440)
            m = r.uniform(1.1, 1.6)
            lam[k, s:] *= 1
            mtok_step = m
            lam[k, s:] *= m
            label(k, -1, s, min(T, s + 1440), "model_launch", 0, m, 0)
            fpb.append(2)
            ev.append((k, s, min(T, s + 3 * 1440), len(fpb) - 1, "share", 0.6))
    lam *= ar
    for p in [r.integers(P)]:
        kk = np.flatnonzero((pool == p) & (cls != 3))
        lam[kk, outage : outage + 12] *= 0.02
        lam[kk, outage + 12 : outage + 30] *= 1.8
        for k in kk:
            label(k, -1, outage, outage + 60, "outage_retry", 0, 1.8, 0)
    free = set(range(K))
    busy = lambda k: lam[k][lam[k] > 0.2 * lam[k].max()].mean() if lam[k].max() > 0 else 1.0
    # benign look-alikes
    biz = [k for k in np.flatnonzero((cls == 0) | (cls == 1))]
    r.shuffle(biz)
    for k in biz[: K // 10]:
        d = r.integers(60, 360)
        s = int(r.integers(8, days - 2) * 1440 + ((9 * 60 + r.integers(0, 480) - tz[k]) % 1440))
        m = r.uniform(3, 8)
        lam[k, s : s + d] += (m - 1) * busy(k)
        label(k, -1, s, s + d, "one_off_batch", 0, m, 0)
        free.discard(k)
        if r.random() < 0.3:
            fpb.append([1, 4][r.integers(2)])
            ev.append((k, s, s + d, len(fpb) - 1, "abs", (m - 1) * busy(k)))
    for k in biz[K // 10 : K // 10 + K // 20]:
        s = int(r.integers(8, days - 4) * 1440)
        ramp = np.clip((t - s) / r.integers(720, 2880), 0, 1)
        m = r.uniform(1.8, 3)
        lam[k] *= 1 + (m - 1) * ramp
        label(k, -1, s, min(T, s + 2 * 1440), "tenant_growth", 0, m, 0)
        free.discard(k)
    # ordinary fingerprint churn: REPLACES part of the traffic, volume unchanged
    for k in range(K):
        rate = {0: 0.06, 1: 0.10, 2: 0.08, 3: 0.06, 4: 0.08, 5: 0.15}[cls[k]]
        for s in np.flatnonzero(r.random(T) < rate / 1440):
            if s < born[k]:
                continue
            bits = r.choice([1, 2, 4, 3, 5, 6, 7], p=[0.30, 0.30, 0.25, 0.04, 0.07, 0.03, 0.01])
            fpb.append(int(bits))
            ev.append(
                (
                    k,
                    s,
                    min(T, s + int(np.exp(r.uniform(np.log(20), np.log(4320))))),
                    len(fpb) - 1,
                    "share",
                    r.uniform(0.05, 1),
                )
            )
    # dormant keys
    dorm = [k for k in np.flatnonzero(cls == 3) if k in free]
    r.shuffle(dorm)
    dorm = dorm[:per_kind]
    extra = np.zeros((K, T), np.float32)
    amul = np.ones(K)

    def atk(k, s, e, rate, kind, mag):
        s = int(s)
        e = int(min(e, T))
        fp = int(r.random() < 0.85)
        x = np.asarray(rate) * np.exp(0.35 * r.standard_normal(e - s))
        extra[k, s:e] += x
        if fp:
            bits = 0
            while bits == 0:
                bits = (r.random() < 0.9) * 1 + (r.random() < 0.6) * 2 + (r.random() < 0.7) * 4
            fpb.append(int(bits))
            ev.append((k, s, e, len(fpb) - 1, "atk", None))
        return fp

    def pick(cs):
        c = [k for k in free if cls[k] in cs]
        k = int(c[r.integers(len(c))])
        free.discard(k)
        return k

    S = lambda: r.integers(8 * 1440, (days - 1) * 1440 - 720)
    for k in dorm:
        free.discard(k)
        s = S()
        lam[k, max(0, s - 10 * 1440) :] = 0
        lam[k, :s] *= t[:s] < s - 10 * 1440
        rate = np.exp(r.uniform(np.log(1), np.log(30)))
        e = s + r.integers(60, 600)
        fp = atk(k, s, e, np.full(min(e, T) - s, rate), "dormant_wake", rate)
        label(k, -1, s, e, "dormant_wake", 1, rate, fp)
    for _ in range(per_kind):
        for kind, m in (("sudden_3x", 3), ("sudden_10x", 10), ("sudden_50x", 50)):
            k = pick((0, 1, 4))
            s = S()
            e = s + r.integers(60, 720)
            e = min(e, T)
            fp = atk(k, s, e, np.full(e - s, max((m - 1) * busy(k), 1.0)), kind, m)
            label(k, -1, s, e, kind, 1, m, fp)
        k = pick((0, 1))
        s = r.integers(8 * 1440, (days - 3) * 1440)
        d = r.integers(1440, 2880)
        fp = atk(k, s, s + d, 9 * busy(k) * np.linspace(0, 1, d) ** 1.5, "slow_ramp", 10)
        label(k, -1, s, s + d, "slow_ramp", 1, 10, fp)
        k = pick((0,))
        d0 = r.integers(8, days - 4)
        m = r.uniform(0.2, 0.5)
        st = (d0 * 1440 - tz[k] + 60) % T
        st = int(st)
        dur = int(r.integers(240, 360))
        b = busy(k)
        fp = 0
        for j in range(3):
            fp = max(fp, atk(k, st + j * 1440, st + j * 1440 + dur, np.full(dur, m * b), "offhours_low", m))
        label(k, -1, st, st + 2 * 1440 + dur, "offhours_low", 1, m, fp)
        k = pick((0, 1))
        s = S()
        d = r.integers(360, 1440)
        d = min(d, T - s)
        m = r.uniform(0.1, 0.2)
        bits = [1, 5, 7, 3][r.integers(4)]
        extra[k, s : s + d] += np.maximum(m * lam[k, s : s + d], 0.05)
        fpb.append(bits)
        ev.append((k, s, s + d, len(fpb) - 1, "atk", None))
        label(k, -1, s, s + d, "new_fp_only", 1, m, 1)
        k = pick((2,))
        s = S()
        d = r.integers(120, 720)
        m = r.uniform(0.7, 2)
        fp = atk(k, s, s + d, np.full(d, m * busy(k)), "in_bursty", m)
        label(k, -1, s, s + d, "in_bursty", 1, m, fp)
    # draw counts
    kd = np.where(cls == 2, 3.0, 12.0)[:, None]
    base = r.poisson(lam * r.gamma(kd, 1 / kd, (K, T))).astype(np.int32)
    att = r.poisson(extra).astype(np.int32)

    def toks(nr, mean, c):
        return np.where(nr > 0, r.gamma(np.maximum(nr, 1) / c**2, mean * c**2), 0)

    tb = toks(base, mtok[:, None], cv[:, None])
    ta = toks(att, (mtok * r.uniform(0.8, 3, K))[:, None], 1.0)
    req = base + att
    tok = np.rint(tb + ta).astype(np.int64)
    rows = []
    for k, s, e, f, mode, v in ev:
        sl = slice(s, e)
        if mode == "atk":
            q = att[k, sl]
            z = ta[k, sl]
        else:
            sh = v if mode == "share" else v / np.maximum(lam[k, sl], 1e-9)
            q = r.binomial(base[k, sl], np.clip(sh, 0, 1))
            z = tb[k, sl] * q / np.maximum(base[k, sl], 1)
        i = np.flatnonzero(q)
        rows.append(np.stack([np.full(len(i), k), s + i, np.full(len(i), f), q[i], np.rint(z[i])], 1))
    rows = np.concatenate(rows).astype(np.int64)
    rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
    # provider view: 0-1 minute skew, +-1% counting difference, 0.3% untracked retries
    prov = np.zeros((P, T))
    for p in range(P):
        m = tok[pool == p].sum(0).astype(float)
        sk = r.uniform(0.1, 0.35, T)
        d = m * (1 - sk)
        d[1:] += (m * sk)[:-1]
        prov[p] = d * (1 + 0.002 + 0.006 * r.standard_normal(T)) + (r.random(T) < 0.003) * m * r.uniform(0, 0.08, T)
    used = {}
    for i in range(per_kind):
        p = i % P
        for _ in range(50):
            s = S()
            if all(abs(s - u) > 2 * 1440 for u in used.get(p, [])):
                break
        used.setdefault(p, []).append(s)
        d = min(r.integers(120, 1440), T - s)
        fr = np.exp(r.uniform(np.log(0.03), np.log(1)))
        mean = prov[p].mean()
        prov[p, s : s + d] += r.gamma(4, fr * mean / 4, d)
        label(-1, p, s, s + d, "pooled_unmetered", 1, fr, 0)
    L = lab
    a = lambda i, dt: np.array([x[i] for x in L], dt)
    return dict(
        requests=req,
        tokens=tok.astype(np.int32),
        provider=np.rint(prov).astype(np.int64),
        key_class=cls.astype(np.int8),
        key_pool=pool.astype(np.int8),
        tz_min=tz.astype(np.int16),
        born=born,
        ev_key=rows[:, 0].astype(np.int16),
        ev_min=rows[:, 1].astype(np.int32),
        ev_fp=rows[:, 2].astype(np.int32),
        ev_req=rows[:, 3].astype(np.int32),
        ev_tok=rows[:, 4],
        fp_bits=np.array(fpb, np.uint8),
        lab_key=a(0, np.int16),
        lab_pool=a(1, np.int8),
        lab_start=a(2, np.int32),
        lab_end=a(3, np.int32),
        lab_kind=a(4, "U20"),
        lab_leak=a(5, np.int8),
        lab_mag=a(6, np.float32),
        lab_fp=a(7, np.int8),
        mtok=mtok.astype(np.float32),
        seed=seed,
    )


def write(d, out, start="2026-09-07"):
    """Turn the arrays of make() into the three files described above."""
    import json, os, pandas as pd

    os.makedirs(out, exist_ok=True)
    t0 = pd.Timestamp(start, tz="UTC")
    K, T = d["tokens"].shape
    req = d["requests"].astype(np.int64).copy()
    tok = d["tokens"].astype(np.int64).copy()
    np.subtract.at(req, (d["ev_key"], d["ev_min"]), d["ev_req"])
    np.subtract.at(tok, (d["ev_key"], d["ev_min"]), d["ev_tok"])
    k, m = np.nonzero(req > 0)
    bits = d["fp_bits"][d["ev_fp"]]
    f = d["ev_fp"]
    name = lambda stem, bit: np.where(bits & bit, [f"{stem}-{i}" for i in f], f"{stem}-usual")
    base = pd.DataFrame(
        dict(
            minute=m,
            key=k,
            network="net-usual",
            model="model-usual",
            agent="agent-usual",
            requests=req[k, m],
            tokens=np.maximum(tok[k, m], 0),
        )
    )
    odd = pd.DataFrame(
        dict(
            minute=d["ev_min"],
            key=d["ev_key"],
            network=name("net", 1),
            model=name("model", 2),
            agent=name("agent", 4),
            requests=d["ev_req"],
            tokens=d["ev_tok"],
        )
    )
    x = pd.concat([base, odd]).sort_values(["minute", "key"], kind="stable")
    x.insert(2, "pool", ["pool-%d" % p for p in d["key_pool"][x.key]])
    x["key"] = ["key-%03d" % v for v in x.key]
    x["minute"] = t0 + pd.to_timedelta(x.minute, unit="min")
    x.to_parquet(f"{out}/minutes.parquet", index=False, compression="zstd")
    P = len(d["provider"])
    mm = np.tile(np.arange(T), P)
    p = pd.DataFrame(
        dict(
            minute=t0 + pd.to_timedelta(mm, unit="min"),
            available_at=t0 + pd.to_timedelta(mm + 5, unit="min"),
            pool=np.repeat([f"pool-{i}" for i in range(P)], T),
            tokens=d["provider"].ravel(),
        )
    )
    p.sort_values(["minute", "pool"]).to_parquet(f"{out}/provider.parquet", index=False, compression="zstd")
    iso = lambda v: (t0 + pd.Timedelta(minutes=int(v))).isoformat()
    L = [
        dict(
            key="key-%03d" % d["lab_key"][i] if d["lab_key"][i] >= 0 else None,
            pool="pool-%d" % (d["lab_pool"][i] if d["lab_pool"][i] >= 0 else d["key_pool"][d["lab_key"][i]]),
            start=iso(d["lab_start"][i]),
            end=iso(d["lab_end"][i]),
            kind=str(d["lab_kind"][i]),
            leak=bool(d["lab_leak"][i]),
            magnitude=float(d["lab_mag"][i]),
        )
        for i in range(len(d["lab_key"]))
    ]
    json.dump(
        dict(start=iso(0), scored_from=iso(7 * 1440), end=iso(T), keys=K, pools=P, labels=L),
        open(f"{out}/labels.json", "w"),
        indent=1,
    )
    return len(x)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--keys", type=int, default=200)
    ap.add_argument("--days", type=int, default=28)
    ap.add_argument("--per-kind", type=int, default=9)
    ap.add_argument("--out", default="leaks")
    a = ap.parse_args()
    n = write(make(a.seed, a.keys, a.days, per_kind=a.per_kind), a.out)
    print(a.out, n, "rows")
