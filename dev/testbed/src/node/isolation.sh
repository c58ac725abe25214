# The first process of the namespaces: it reaps orphans, and everything ends with it. Runs "$@".
set -e
# What the programs write to well-known places goes to memory and ends with the mounts.
for dir in /run /dev/shm /var/log /var/lib/cni; do mount -t tmpfs testbed "$dir"; done
# The kubelet sets these parameters of the kernel, which belong to the whole machine: it gets copies.
for parameter in kernel/panic kernel/panic_on_oops vm/overcommit_memory vm/panic_on_oom; do
    mkdir -p "/run/parameters/${parameter%/*}"
    cat "/proc/sys/$parameter" >"/run/parameters/$parameter"
    mount --bind "/run/parameters/$parameter" "/proc/sys/$parameter"
done
ip link set lo up
set +e
"$@"
exit $?
