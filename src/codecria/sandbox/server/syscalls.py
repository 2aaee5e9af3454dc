"""The system calls a confined program may make, by name, with their numbers on x86_64 and aarch64.

A table, because the numbers differ between processors and libseccomp is not everywhere. Source: the kernel's
`arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`. A call that is in no group is answered
with ENOSYS, so that a newer C library falls back to an older call.
"""

from __future__ import annotations

import os


def _table(text: str) -> dict[str, str]:
    """name=x86_64/aarch64; the second is empty for the old calls that aarch64 never had."""
    return dict(row.split("=") for row in text.split())


ALLOWED = _table("""
    read=0/63 write=1/64 readv=19/65 writev=20/66 pread64=17/67 pwrite64=18/68 preadv=295/69 pwritev=296/70 lseek=8/62
    close=3/57 close_range=436/436 stat=4/ fstat=5/80 lstat=6/ newfstatat=262/79 statx=332/291 access=21/
    faccessat=269/48 faccessat2=439/439 statfs=137/43 fstatfs=138/44 getdents=78/ getdents64=217/61 getcwd=79/17
    chdir=80/49 fchdir=81/50 mkdir=83/ mkdirat=258/34 rmdir=84/ unlink=87/ unlinkat=263/35 rename=82/ renameat=264/38
    renameat2=316/276 link=86/ linkat=265/37 symlink=88/ symlinkat=266/36 readlink=89/ readlinkat=267/78 ftruncate=77/46
    fadvise64=221/223 fsync=74/82 fdatasync=75/83 flock=73/32 sendfile=40/71 umask=95/166 getxattr=191/8 lgetxattr=192/9
    fgetxattr=193/10 listxattr=194/11 llistxattr=195/12 flistxattr=196/13 pipe=22/ pipe2=293/59 dup=32/23 dup2=33/
    dup3=292/24 poll=7/ ppoll=271/73 select=23/ pselect6=270/72 epoll_create=213/ epoll_create1=291/20 epoll_ctl=233/21
    epoll_wait=232/ epoll_pwait=281/22 eventfd=284/ eventfd2=290/19 timerfd_create=283/85 timerfd_settime=286/86
    timerfd_gettime=287/87 sendto=44/206 recvfrom=45/207 sendmsg=46/211 recvmsg=47/212 shutdown=48/210 getsockopt=55/209
    setsockopt=54/208 getsockname=51/204 getpeername=52/205 mmap=9/222 munmap=11/215 mprotect=10/226 mremap=25/216
    msync=26/227 mincore=27/232 madvise=28/233 brk=12/214 rt_sigaction=13/134 rt_sigprocmask=14/135 rt_sigreturn=15/139
    rt_sigpending=127/136 rt_sigsuspend=130/133 rt_sigtimedwait=128/137 sigaltstack=131/132 pause=34/ alarm=37/
    setitimer=38/103 getitimer=36/102 timer_create=222/107 timer_settime=223/110 timer_gettime=224/108
    timer_getoverrun=225/109 timer_delete=226/111 restart_syscall=219/128 gettimeofday=96/169 time=201/
    clock_gettime=228/113 clock_getres=229/114 clock_nanosleep=230/115 nanosleep=35/101 times=100/153 getrlimit=97/163
    getrusage=98/165 sysinfo=99/179 uname=63/160 getcpu=309/168 getrandom=318/278 getpid=39/172 getppid=110/173
    gettid=186/178 getuid=102/174 geteuid=107/175 getgid=104/176 getegid=108/177 getresuid=118/148 getresgid=120/150
    getgroups=115/158 getpgrp=111/ getpgid=121/155 getsid=124/156 getpriority=140/141 sched_yield=24/124
    sched_getaffinity=204/123 sched_getparam=143/121 sched_getscheduler=145/120 sched_get_priority_max=146/125
    sched_get_priority_min=147/126 futex=202/98 set_robust_list=273/99 get_robust_list=274/100 set_tid_address=218/96
    rseq=334/293 membarrier=324/283 arch_prctl=158/ exit=60/93 exit_group=231/94 wait4=61/260 waitid=247/95
""")
"""Answered by the kernel, whatever the arguments."""

CONDITIONAL = _table("""
    open=2/ openat=257/56 fcntl=72/25 ioctl=16/29 prctl=157/167 prlimit64=302/261 socketpair=53/199 kill=62/129
    tgkill=234/131 clone=56/220
""")
"""Answered by the kernel for some arguments; `seccomp` says which."""

PRETENDED = _table("""
    chmod=90/ fchmod=91/52 fchmodat=268/53 fchmodat2=452/452 utime=132/ utimes=235/ futimesat=261/ utimensat=280/88
""")
"""Not done, reported as done: Landlock does not guard modes and times, and `shutil.copy` needs them to succeed."""

SPAWNING = _table("fork=57/ vfork=58/ execve=59/221")
"""Allowed only where a program may have more than one process."""

REFUSED = _table("""
    execveat=322/281 socket=41/198 connect=42/203 bind=49/200 listen=50/201 accept=43/202 accept4=288/242 tkill=200/130
    rt_sigqueueinfo=129/138 rt_tgsigqueueinfo=297/240 pidfd_open=434/434 pidfd_getfd=438/438 pidfd_send_signal=424/424
    ptrace=101/117 process_vm_readv=310/270 process_vm_writev=311/271 mount=165/40 umount2=166/39 unshare=272/97
    setns=308/268 pivot_root=155/41 chroot=161/51 bpf=321/280 perf_event_open=298/241 keyctl=250/219 add_key=248/217
    request_key=249/218 io_uring_setup=425/425 userfaultfd=323/282 memfd_create=319/279 setsid=112/157 setpgid=109/154
    setuid=105/146 setgid=106/144 setreuid=113/145 setregid=114/143 setresuid=117/147 setresgid=119/149
    setgroups=116/159 capset=126/91 personality=135/92 setpriority=141/140 sched_setaffinity=203/122
    sched_setscheduler=144/119 setrlimit=160/164 chown=92/ fchown=93/55 lchown=94/ fchownat=260/54 truncate=76/45
    creat=85/ mknod=133/ mknodat=259/33 setxattr=188/5 lsetxattr=189/6 fsetxattr=190/7 removexattr=197/14
    lremovexattr=198/15 fremovexattr=199/16 open_by_handle_at=304/265 shmget=29/194 msgget=68/186 semget=64/190
    mq_open=240/180 landlock_restrict_self=446/446
""")
"""Refused with EPERM, so that Python raises PermissionError instead of a confusing ENOSYS."""

_COLUMN = {"x86_64": 0, "amd64": 0, "aarch64": 1, "arm64": 1}
AUDIT_ARCH = (0xC000003E, 0xC00000B7)
"""What seccomp calls the two processors (`linux/audit.h`)."""


def column() -> int | None:
    """Which column of the table this processor reads; None where there is none."""
    return _COLUMN.get(os.uname().machine.lower())


def numbers(column: int) -> dict[str, int]:
    """Numbers by name in one column; calls that the processor does not have are left out."""
    both = ALLOWED | CONDITIONAL | PRETENDED | SPAWNING | REFUSED
    found = {name: numbers.split("/")[column] for name, numbers in both.items()}
    return {name: int(number) for name, number in found.items() if number}
