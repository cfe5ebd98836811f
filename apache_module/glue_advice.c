/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator should know of his process groups, and could not see: messages alone,
 * nothing is changed and nothing refused. What makes a configuration unusable is glue_group.c's. */
#include "glue_advice.h"

#include <http_core.h>
#include <mpm_common.h>
#include <unistd.h>
#include <unixd.h>

#include "glue_config.h"
#include "glue_identity.h"
#include "glue_log.h"
#include "glue_route.h"

void glue_advice_on_use(const server_rec *s, const char *subject, const char *where,
                        const char *name) {
    const glue_group_t *group = glue_group_find(s, name);

    if (*name == '\0' || glue_route_is_token(name))
        return;
    if (group == NULL)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     GLUE_ID(0102) "%s (%s): no WSGIDaemonProcess defines '%s'; requests for it "
                                   "will be answered with 500: define it, or correct the name",
                     subject, where, name);
    else if (s->is_virtual && !glue_group_is_open_to(group, s))
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     GLUE_ID(0107) "%s (%s): '%s' is defined in a virtual host of another "
                                   "ServerName (%s); requests for it will be answered with 500: "
                                   "define it in the main server, or one for each",
                     subject, where, name, group->where);
}

/* TENANTS 4: what httpd's own user cannot read of its children else: the workers' keys. */
static void tell_core_dumps(server_rec *main_server, const apr_array_header_t *groups) {
    for (int i = 0; ap_coredumpdir_configured && i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (geteuid() != 0 || group->uid == ap_unixd_config.user_id)
            continue;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     GLUE_ID(0109) "CoreDumpDirectory opens httpd's children to all processes of "
                                   "httpd's user (CGI, PHP), who can then speak to the workers of "
                                   "process group '%s', which runs as another user: leave it out "
                                   "where they must be apart",
                     group->name);
        return;
    }
}

static int has_roots_group(const glue_group_t *group) {
    for (int i = 0; i < group->groups->nelts; i++)
        if (APR_ARRAY_IDX(group->groups, i, gid_t) == 0)
            return 1;
    return 0;
}

/* As group= and supplementary-groups= refuse it: here it is the account that brings it along. */
static void tell_roots_group(server_rec *main_server, const apr_array_header_t *groups) {
    for (int i = 0; geteuid() == 0 && i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (has_roots_group(group))
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                         GLUE_ID(0112) "process group '%s': its user '%s' is a member of root's "
                                       "group, so its workers may read and write what is open to "
                                       "that: take the user out of it, or name the groups that "
                                       "the workers need by supplementary-groups=",
                         group->name, group->user);
    }
}

/* The kernel counts by user: httpd's children have their threads in the same account. */
static void tell_shared_account(server_rec *main_server, const apr_array_header_t *groups) {
    uid_t httpd = geteuid() == 0 ? ap_unixd_config.user_id : geteuid();

    for (int i = 0; i < groups->nelts; i++) {
        const glue_group_t *group = APR_ARRAY_IDX(groups, i, glue_group_t *);

        if (group->process_limit > 0 && group->uid == httpd)
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                         GLUE_ID(0111) "process-limit=%d of process group '%s' counts the threads "
                                       "of httpd's children as well, because it runs as their "
                                       "user: allow for them, or give it its own by user=",
                         group->process_limit, group->name);
    }
}

/* Said at `httpd -t` alone: most sites mean it so. */
static void tell_shared_user(server_rec *main_server, const apr_array_header_t *groups) {
    for (int i = 1; i < groups->nelts; i++)
        for (int j = 0; j < i; j++) {
            const glue_group_t *one = APR_ARRAY_IDX(groups, j, glue_group_t *);
            const glue_group_t *other = APR_ARRAY_IDX(groups, i, glue_group_t *);

            if (one->uid != other->uid)
                continue;
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                         GLUE_ID(0110) "process groups of one user are not apart from each other, "
                                       "such as '%s' and '%s': each can read the other's files, "
                                       "memory and environment. user= gives a group its own",
                         one->name, other->name);
            return;
        }
}

void glue_advice_on_groups(server_rec *main_server) {
    const apr_array_header_t *groups = glue_groups(main_server);
    const apr_array_header_t *mentions = glue_config_site(main_server)->mentions;

    for (int i = 0; i < mentions->nelts; i++) {
        const glue_mention_t *mention = &APR_ARRAY_IDX(mentions, i, glue_mention_t);

        glue_advice_on_use(mention->server, "WSGIProcessGroup", mention->where,
                           mention->process_group);
    }
    if (glue_identity_has_several(groups))
        ap_log_error(
            APLOG_MARK, APLOG_NOTICE, 0, main_server,
            GLUE_ID(0103) "process groups run as several users, so they start with a clean "
                          "environment (PATH, LANG, HOME, USER, LOGNAME); environ=inherit "
                          "gives a group httpd's");
    tell_core_dumps(main_server, groups);
    tell_roots_group(main_server, groups);
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST)
        return;
    tell_shared_user(main_server, groups);
    tell_shared_account(main_server, groups);
}
