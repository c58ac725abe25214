# I/O
# Makes the folder of one control plane and, when stdin closes, removes it with every process of group $1.
# stdin closes however the owner ends, SIGKILL included. $2: where the folder goes if memory has no room.
trap '' INT TERM HUP PIPE
root=$2
free=$(df -Pk /dev/shm 2>/dev/null | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
# etcd alone sets 64 MiB aside for its log, which is all that a container's /dev/shm usually has.
if [ -w /dev/shm ] && [ "${free:-0}" -gt 1048576 ] 2>/dev/null; then root=/dev/shm; fi
dir=$(mktemp -d "$root/ohallo-testbed.XXXXXXXX") || exit 1
echo "$dir"
exec >/dev/null
while read -r _; do :; done
kill -s KILL -- "-$1" 2>/dev/null
tries=0
until { rm -rf "$dir" && [ ! -e "$dir" ]; } 2>/dev/null || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
