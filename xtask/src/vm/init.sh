#!/bin/sh
# The guest's first process: mounts what a system has, runs /command, sends /out back, switches off.
# PATHTRACE_LIVE and its companions are for the live tests, so that a plain `/live` runs them.
export PATH=/bin HOME=/root TERM=dumb
export PATHTRACE_LIVE=1 PATHTRACE_BIN=/pathtrace PATHTRACE_TEST_BACKENDS=fentry,kprobe

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tracefs tracing /sys/kernel/tracing
# Bringing it up gives it 127.0.0.1 as well.
ip link set lo up
# The console adds a carriage return to each line otherwise.
stty -F /dev/ttyS0 -opost
stty -F /dev/ttyS1 raw

echo "pathtrace-guest: begin"
sh /command </dev/null
echo "pathtrace-guest: exit $?"

if [ -n "$(ls -A /out)" ]; then
    # Text, because a serial line may change single bytes; compressed, because it is slow.
    tar -C /out -cz . | base64 >/dev/ttyS1
fi
sync
poweroff -f
