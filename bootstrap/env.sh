#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a shell ready for enclaves. To be sourced, from sh, bash or zsh:
#
#     NITRO_CLI_INSTALL_DIR=/opt/nitro
#     . /opt/nitro/etc/profile.d/nitro-cli-env.sh
#
# Puts the programs in PATH, tells them where the blobs are, and loads the driver if none is loaded. Sourced again, it
# changes nothing. The status is 0 if everything is done; otherwise one line on stderr says why not. It is for any shell
# of a user, so it neither ends the shell nor changes its options or arguments; `set -e` and `set -u` may be on.
#
# Login shells source an installed copy in /etc/profile.d, without NITRO_CLI_INSTALL_DIR. There it loads no driver, and
# says nothing when the programs have been removed: nobody has asked.

# An installed copy knows the place that it was built for.
nitro_cli_place=${NITRO_CLI_INSTALL_DIR:-@CMAKE_INSTALL_PREFIX@}
nitro_cli_programs=
nitro_cli_fault=
case $nitro_cli_place in
  @*) nitro_cli_fault="NITRO_CLI_INSTALL_DIR is not set: set it to the folder where nitro-cli is installed" ;;
  *:*) nitro_cli_fault="the folder $nitro_cli_place has a colon in its name, which PATH does not allow" ;;
  *)
    nitro_cli_place=${nitro_cli_place%/}
    if [ -x "$nitro_cli_place/usr/bin/nitro-cli" ]; then
      nitro_cli_programs=$nitro_cli_place/usr
    elif [ -x "$nitro_cli_place/bin/nitro-cli" ]; then
      nitro_cli_programs=$nitro_cli_place
    elif [ -n "${NITRO_CLI_INSTALL_DIR-}" ]; then
      nitro_cli_fault="there is no nitro-cli in ${nitro_cli_place:-/}; NITRO_CLI_INSTALL_DIR names the folder where it is installed"
    fi
    ;;
esac

if [ -n "$nitro_cli_programs" ]; then
  case :${PATH-}: in
    *":$nitro_cli_programs/bin:"*) ;;
    *) export PATH="${PATH:+$PATH:}$nitro_cli_programs/bin" ;;
  esac
  export NITRO_CLI_BLOBS="$nitro_cli_programs/share/nitro_enclaves/blobs"
  if [ -n "${NITRO_CLI_INSTALL_DIR-}" ] && ! [ -d /sys/module/nitro_enclaves ]; then
    nitro_cli_fault=$(
      # An ordinary user's PATH lacks the folders of modprobe.
      PATH=${PATH-}:/usr/sbin:/sbin
      module=$nitro_cli_place/lib/modules/$(uname -r)/extra/nitro_enclaves/nitro_enclaves.ko
      if [ -f "$module" ]; then set -- insmod "$module"; else set -- modprobe nitro_enclaves; fi
      if [ "$(id -u)" -ne 0 ]; then
        # Without a terminal there is nobody to ask for a password.
        if [ -t 0 ]; then set -- sudo -- "$@"; else set -- sudo -n -- "$@"; fi
      fi
      if ! reason=$("$@" 2>&1 >/dev/null); then
        printf 'the driver nitro_enclaves cannot be loaded: %s' "$reason" | tr '\n' ' '
      fi
    ) || :
  fi
fi

unset nitro_cli_place nitro_cli_programs
if [ -n "$nitro_cli_fault" ]; then
  printf 'nitro-cli-env.sh: %s\n' "$nitro_cli_fault" >&2
  unset nitro_cli_fault
  # As a condition: with `set -e`, dash takes a plain `return 1` for a failure that ends the shell, even in
  # `. nitro-cli-env.sh || ...`.
  # shellcheck disable=SC2317
  if return 1; then :; fi
fi
unset nitro_cli_fault
return 0
